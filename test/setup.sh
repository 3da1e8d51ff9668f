#!/bin/bash
# Installs the Debian packages of programs that the tests call. Says nothing where all are there.
set -euo pipefail

# package: what it brings. A path is looked for as a file, anything else as a program.
needed=(
  diffutils:diff
  e2fsprogs:mkfs.ext4
  fuse3:fusermount3
  gcc:cc
  git:git
  iproute2:ip
  libc6-dev:/usr/include/stdio.h
  make:make
  mount:mount
  mount:losetup
  spin:spin
  sqlite3:sqlite3
  util-linux:nsenter
  util-linux:setpriv
  util-linux:unshare
)

PATH=$PATH:/usr/sbin:/sbin
missing=()
for row in "${needed[@]}"; do
  package=${row%%:*} brings=${row#*:}
  case $brings in
    /*) [ -e "$brings" ] && continue ;;
    *) command -v "$brings" >/dev/null && continue ;;
  esac
  case " ${missing[*]} " in *" $package "*) ;; *) missing+=("$package") ;; esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: the tests need programs of the Debian packages ${missing[*]}: install them, as root, then run it again" >&2
  exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "setup: apt-get could not install ${missing[*]}" >&2
  exit 1
fi
