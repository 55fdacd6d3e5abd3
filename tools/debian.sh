#!/usr/bin/env bash
# debian: the Debian packages that the full check uses, and what for.
#
#   gcc make             native peers of the bench, the searches of the models, readers in tests
#   spin                 the models of the protocols
#   libjemalloc-dev libmimalloc-dev
#                        peers of the bench
#   clang lld wasi-libc libclang-rt-dev-wasm32
#                        peers of the bench that are WebAssembly
#   zstd                 makes compressed traces for the tests of the readers
#   python3              an independent reader of the statistics streams, in the tests
#   chromium firefox-esr webkit2gtk-driver xvfb
#                        open the page that tests the package in a browser
#
# Nothing of this is needed to use kmem.  A test that misses one says `skipped: needs X`.  Already
# installed packages are left as they are; sudo is used only where we are not root.
set -eu
packages=(gcc make spin libjemalloc-dev libmimalloc-dev zstd python3)
packages+=(clang lld wasi-libc libclang-rt-dev-wasm32)
packages+=(chromium firefox-esr webkit2gtk-driver xvfb)

missing=()
for package in "${packages[@]}"; do
  if ! dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed'; then
    missing+=("$package")
  fi
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "debian: all packages are there"
  exit 0
fi

root=()
[ "$(id -u)" -eq 0 ] || root=(sudo)
export DEBIAN_FRONTEND=noninteractive
echo "debian: installing ${missing[*]}"
"${root[@]}" apt-get update -q
"${root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
