#!/usr/bin/env bash
# run: one exhaustive search of one model.
#
#   models/run.sh NAME [-Dflag ...]         safety: assertions, and end states nobody may stop in
#                                           (a lost wake-up, a deadlock)
#   LTL=1 models/run.sh NAME [-Dflag ...]   progress: the formula in the model, under weak fairness
#
#   SEED=1 models/run.sh NAME [-Dflag ...]  safety, processes and choices in an order drawn from the seed: for faults
#                                           that lie far from where a search begins
#
# Compiled without optimisation: that takes gcc 2 s instead of 40, more than most searches run.
# SECONDS_MAX and MEMORY_MB bound a search; both have defaults.
# Prints one line: the model, its flags, errors=0 or errors=1, the states seen, the fault found.  A
# search cut short by memory, depth or time says NOT EXHAUSTIVE and counts as neither.
set -u
name=${1:?usage: models/run.sh NAME [-Dflag ...]}
name=${name%.pml}
shift

models=$(cd "$(dirname "$0")" && pwd)
if [ ! -f "$models/$name.pml" ]; then
  echo "$name: no such model; there are: $(cd "$models" && echo *.pml | sed 's/\.pml//g')" >&2
  exit 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 2
cp "$models/$name.pml" .

seconds=${SECONDS_MAX:-280}
depth=4000000
memory_mb=${MEMORY_MB:-4000}
spin -a "$@" "$name.pml" > spin.out 2>&1
if [ -n "${LTL:-}" ]; then
  compile=(-DNFAIR=6 -DCOLLAPSE)
  search=(-a -f)
else
  compile=(-DSAFETY -DCOLLAPSE)
  search=()
  if [ -n "${SEED:-}" ]; then
    compile+=(-DP_RAND -DT_RAND)
    search=("-RS$SEED")
  fi
fi
if ! gcc -O0 -w -DMEMLIM=$memory_mb -DVECTORSZ=4096 "${compile[@]}" -o pan pan.c 2> gcc.out; then
  echo "$name $* does not compile: $(grep -i -m1 error spin.out gcc.out)"
  exit 2
fi
timeout $seconds ./pan "${search[@]}" -m$depth > pan.out 2>&1
ended=$?

errors=$(sed -n 's/.*errors: *//p' pan.out)
states=$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out)
fault=$(grep -m1 '^pan:1' pan.out)
cut=$(grep -m1 -E 'reached -DMEMLIM|max search depth too small|out of memory' pan.out)
[ $ended -eq 124 ] && cut="stopped after $seconds s"
line="$name"
[ $# -gt 0 ] && line="$line $*"
[ -n "${LTL:-}" ] && line="$line (progress)"
line="$line  errors=${errors:-?} states=${states:-?}"
[ -n "$fault" ] && line="$line  ${fault#pan:1: }"
[ -n "$cut" ] && line="$line  NOT EXHAUSTIVE: $cut"
echo "$line"
