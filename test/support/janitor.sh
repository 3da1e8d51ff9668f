#!/bin/bash
# janitor.sh ROOT: waits until standard input ends (the test has finished, or was killed), then removes whatever a test
# has left: processes marked with DAZZLE_TEST_ROOT=ROOT, mounts below ROOT, ROOT itself.
trap '' INT TERM HUP
root=${1:?root}
cat >/dev/null

mounts() { # TYPE-PATTERN: "major:minor mountpoint" of the mounts below ROOT, the deepest first
  while read -r _ _ device _ mountpoint rest; do
    type=${rest#*- }; type=${type%% *}
    case $mountpoint in "$root"/*) case $type in $1) printf '%s %s\n' "$device" "$mountpoint" ;; esac ;; esac
  done </proc/self/mountinfo | sort -r -k2
}
marked() {
  local pid
  for pid in $(grep -lzsx "DAZZLE_TEST_ROOT=$root" /proc/[0-9]*/environ); do
    pid=${pid#/proc/}; pid=${pid%/environ}
    [ "$pid" = $$ ] || echo "$pid"
  done
}
unlimited() { # MAJOR:MINOR: a loop device is as fast as it can be again, for whoever has it next
  case $1 in 7:*) for way in read write; do echo "$1 0" >"/sys/fs/cgroup/blkio/blkio.throttle.${way}_bps_device"; done ;; esac
} 2>/dev/null

for _ in 1 2 3 4 5 6 7 8 9 10; do
  mounts 'fuse*' | while read -r device _; do echo 1 >"/sys/fs/fuse/connections/${device#*:}/abort"; done 2>/dev/null
  pids=$(marked)
  [ -n "$pids" ] || break
  kill -9 $pids 2>/dev/null
  sleep 0.2
done
mounts '*' | while read -r device mountpoint; do unlimited "$device"; umount "$mountpoint" 2>/dev/null || umount -l "$mountpoint"; done
rm -rf --one-file-system "$root"
