#!/usr/bin/env bash
# all: every model, and every bug planted in one, two searches at a time.
#
#   models/all.sh [NAME ...]           all, or those of the models named
#   LONG=1 models/all.sh [NAME ...]    also the variants that take minutes
#
# `ok` lines must hold, `no` lines must fail: a model that cannot find a planted bug proves nothing.
# Each search prints one line ending in `as expected` or `UNEXPECTED`; any of the latter is exit code 1.
# Without spin or gcc nothing is run: exit code 0 at home, 1 where CI=true.
set -u
cd "$(dirname "$0")" || exit 2

for tool in spin gcc; do
  if ! command -v $tool > /dev/null; then
    echo "skipped: needs $tool"
    [ "${CI:-}" = true ] && exit 1
    exit 0
  fi
done

# kind  search    model  flags
list() {
  cat << 'LIST'
ok safety   mutex
ok safety   mutex -DSLICE -DN=2
no safety   mutex -DBUG_LEAVE
no safety   mutex -DBUG_GRANT
no safety   mutex -DBUG_TAKE
ok safety   sleepq
ok safety   sleepq -DSKIP
ok safety   sleepq -DSKIP -DNOLOCK -DRECHECK
no safety   sleepq -DBUG_ORDER
no safety   sleepq -DBUG_TIMEOUT
no safety   sleepq -DSKIP -DNOLOCK
no safety   sleepq -DSKIP -DNOLOCK -DRECHECK -DBUG_ONCE
ok safety   park
no safety   park -DBUG_UNPARK
no safety   park -DPLAIN
ok safety   park -DPLAIN -DFENCE
ok safety   claim
no safety   claim -DBUG_INSIDE
ok safety   tlb
no safety   tlb -DNOACK
no safety   tlb -DLATE
no safety   tlb -DPARKEDLOOK
ok safety   tlb -DLOCKED -DONCE
no safety   tlb -DLOCKED -DONCE -DFREEFILL
no safety   tlb -DLOCKED -DONCE -DNOACK
ok safety   robust
ok safety   robust -DCLEAR_LATE
no safety   robust -DBUG_NOREC
no safety   robust -DBUG_ORDER
ok safety   daemon
no safety   daemon -DBUG_NOCHECK
no safety   daemon -DBUG_BLOCK
no safety   daemon -DBUG_BUSY
no safety   daemon -DBUG_WANTED
ok safety   stats
no safety   stats -DALLOCS_FIRST
no safety   stats -DNOSEQ
ok safety   rw -DCFG=7
ok safety   rw -DCFG=10
ok safety   rw -DCFG=16
ok safety   rw -DCFG=18
ok safety   rw -DCFG=19
ok safety   rw -DCFG=13
ok safety   rw -DCFG=12 -DDEATHS=1 -DABANDON
no safety   rw -DCFG=9 -DBUG_ANNOUNCE
no safety   rw -DCFG=9 -DBUG_LOOK
no safety   rw -DCFG=9 -DBUG_WITHDRAW
no safety   rw -DCFG=9 -DBUG_RUNLOCK
no safety   rw -DCFG=1 -DBUG_LEAVE
no safety   rw -DCFG=1 -DBUG_NONE
no safety   rw -DCFG=10 -DBUG_TAKE
no safety   rw -DCFG=16 -DBUG_ASYNC
no safety   rw -DCFG=13 -DBUG_DISPOSE
no safety   rw -DCFG=19 -DBUG_RECOVER
no safety   rw -DCFG=9 -DDEATHS=1 -DBUG_STALE
no safety   rw -DCFG=2 -DBUG_DOWN
no safety   rw -DCFG=2 -DBUG_DOWNWW
no safety   rw -DCFG=4 -DBUG_TENT
no random   rw -DCFG=4 -DBUG_NEST
no safety   rw -DCFG=4 -DBUG_BACK
no safety   rw -DCFG=9 -DDEATHS=1 -DABANDON -DBUG_LATE
ok progress rw -DCFG=15 -DLIVE
no progress rw -DCFG=15 -DLIVE -DSTRICT
no progress rw -DCFG=15 -DLIVE -DBUG_RUNLOCK
ok safety   slots -DCFG=1 -DTWO -DDEATHS=1
ok safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2
ok safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DSPENT=1
ok safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DSPENT=2
ok safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DSPENT=3
ok safety   slots -DCFG=4 -DDEATHS=1
no safety   slots -DCFG=1 -DDEATHS=1 -DBUG_STALE
no safety   slots -DCFG=1 -DDEATHS=1 -DBUG_NOINC
no safety   slots -DCFG=1 -DDEATHS=0 -DBUG_EMFILE
no safety   slots -DCFG=1 -DTWO -DDEATHS=1 -DBUG_LATEWHO
no safety   slots -DCFG=1 -DDEATHS=1 -DBUG_TIDONLY
no safety   slots -DCFG=1 -DTWO -DDEATHS=2 -DBUG_SETTLER
no safety   slots -DCFG=1 -DTWO -DDEATHS=1 -DBUG_STEAL
no safety   slots -DCFG=1 -DTWO -DDEATHS=1 -DBUG_FREEFIRST
no safety   slots -DCFG=1 -DTWO -DDEATHS=1 -DBUG_CLAIM
no safety   slots -DCFG=1 -DTWO -DDEATHS=0 -DBUG_EARLY
no safety   slots -DCFG=1 -DTWO -DDEATHS=0 -DBUG_LOCKED
no safety   slots -DCFG=2 -DDEATHS=1 -DBUG_NOGEN
no safety   slots -DCFG=2 -DDEATHS=1 -DBUG_LOOK
no safety   slots -DCFG=2 -DDEATHS=1 -DBUG_COUNT
no safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DBUG_CLEARFIRST
no safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DSPENT=1 -DBUG_NOHEIR
no safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DSPENT=2 -DBUG_WIPE
no safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DSPENT=3 -DBUG_WIPE
no safety   slots -DCFG=3 -DNATT=2 -DDEATHS=2 -DSPENT=2 -DBUG_SAMEINC
no safety   slots -DCFG=4 -DDEATHS=1 -DBUG_STOPSTAY
ok progress tlb -DLIVE -DNOPARK
no progress tlb -DLIVE -DNOPARK -DONCE
ok progress tlb -DLIVE -DNOPARK -DONCE -DRECHECK
ok progress tlb -DLIVE -DNOPARK -DONCE -DLOCKED
no progress tlb -DLIVE -DNOPARK -DONCE -DLOCKED -DFREEFILL
ok progress panic
no progress panic -DONCE
LIST
  [ -n "${LONG:-}" ] && cat << 'LIST'
ok safety   mutex -DSLICE
ok safety   rw -DCFG=1
ok safety   rw -DCFG=2
ok safety   rw -DCFG=3
ok safety   rw -DCFG=6
ok safety   rw -DCFG=9
ok safety   rw -DCFG=11
ok safety   rw -DCFG=14
ok safety   rw -DCFG=1 -DDEATHS=1 -DABANDON
ok safety   rw -DCFG=2 -DDEATHS=1 -DABANDON
ok safety   rw -DCFG=9 -DDEATHS=1 -DABANDON
ok safety   rw -DCFG=13 -DDEATHS=1 -DABANDON
ok safety   rw -DCFG=9 -DDEATHS=1 -DABANDON -DSLICE
no safety   rw -DCFG=9 -DDEATHS=1 -DABANDON -DSLICE -DBUG_EARLY
no safety   rw -DCFG=9 -DDEATHS=1 -DABANDON -DSLICE -DBUG_NOTAKING
no safety   rw -DCFG=6 -DBUG_UPHOLD
no safety   rw -DCFG=5 -DBUG_WAITRW
ok progress rw -DCFG=10 -DLIVE
no safety   slots -DCFG=2 -DDEATHS=1 -DBUG_TWOBOOT
no random   slots -DCFG=3 -DNATT=3 -DDEATHS=2 -DSPENT=2 -DBUG_ONELOOK
ok safety   slots -DCFG=1 -DDEATHS=1
ok safety   slots -DCFG=2 -DDEATHS=1
LIST
}

# One line of the list: run it, and say whether it came out as it must.
one() {
  local kind=$1 search=$2 line verdict=UNEXPECTED
  shift 2
  case $search in
    progress) line=$(LTL=1 SEED='' ./run.sh "$@") ;;
    random) line=$(LTL='' SEED=1 ./run.sh "$@") ;;
    *) line=$(LTL='' SEED='' ./run.sh "$@") ;;
  esac
  case "$kind $line" in
    *'NOT EXHAUSTIVE'*) [ "$kind" = no ] && case "$line" in *errors=1*) verdict='as expected' ;; esac ;;
    'ok '*' errors=0 '*) verdict='as expected' ;;
    'no '*' errors=1 '*) verdict='as expected' ;;
  esac
  echo "$line | $verdict"
  [ "$verdict" = 'as expected' ]
}
export -f one

chosen=$(list)
if [ $# -gt 0 ]; then
  names=$(printf '%s|' "${@%.pml}")
  chosen=$(echo "$chosen" | grep -E "^[a-z]+ +[a-z]+ +(${names%|})( |\$)")
  if [ -z "$chosen" ]; then
    echo "no model is called $*; there are: $(echo *.pml | sed 's/\.pml//g')" >&2
    exit 2
  fi
fi

echo "$chosen" | xargs -P 2 -I{} bash -c 'one {}'
if [ $? -ne 0 ]; then
  echo "models: some searches came out otherwise than they must"
  exit 1
fi
echo "models: $(echo "$chosen" | wc -l) searches, all as expected"
