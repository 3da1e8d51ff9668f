import { chownSync, mkdirSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import test from "ava";
import { DAZZLE } from "./support/cluster.ts";
import { forgetMounts } from "./support/mounts.ts";
import { requirePrograms } from "./support/programs.ts";
import { ok } from "./support/run.ts";
import { Workspace } from "./support/workspace.ts";

const NOBODY = 65_534;

/** Everything in one shell, in a mount namespace of its own where /dev/fuse is open to all; both end together. */
const SESSION = `
set -eu
${forgetMounts()}
node="$1"; checkout="$2"; command="$3"; home="$4"; space="$5"
mount -t tmpfs -o mode=755 tmpfs "$space"
mknod "$space/fuse" c 10 229
chmod 666 "$space/fuse"
mount --bind "$space/fuse" /dev/fuse
# The checkout may lie where only root may look.
mkdir "$space/checkout"
mount --bind "$checkout" "$space/checkout"
touch "$space/node"
mount --bind "$node" "$space/node"
cd /
exec setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups bash -eu -c '
  node="$1"; dazzle="$2"; home="$3"
  export HOME="$home"
  "$node" "$dazzle" up --dir "$home/state" --mount "$home/mnt" --nodes 3 >"$home/up.log" 2>&1 &
  up=$!
  trap "kill -TERM $up 2>/dev/null || :; wait $up || :" EXIT
  for _ in $(seq 300); do
    grep -q " $home/mnt fuse" /proc/self/mounts && break
    kill -0 $up 2>/dev/null || { cat "$home/up.log" >&2; exit 1; }
    sleep 0.2
  done
  grep -q " $home/mnt fuse" /proc/self/mounts || { cat "$home/up.log" >&2; exit 1; }
  echo "written by nobody" >"$home/mnt/file"
  mkdir "$home/mnt/folder"
  cp "$home/mnt/file" "$home/mnt/folder/copy"
  cat "$home/mnt/folder/copy"
  stat -c "%u %g" "$home/mnt/folder/copy"
  "$node" "$dazzle" down --dir "$home/state"
  for _ in $(seq 300); do grep -q " $home/mnt fuse" /proc/self/mounts || exit 0; sleep 0.2; done
  echo "still mounted after dazzle down" >&2; exit 1
' _ "$space/node" "$space/checkout/$command" "$home"
`;

test("an ordinary user brings a cluster up, mounts it, uses it, and takes it down", async (t) => {
  t.timeout(5 * 60_000);
  requirePrograms("fusermount3", "unshare", "setpriv");
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const home = workspace.file("home");
  mkdirSync(home);
  chownSync(home, NOBODY, NOBODY);
  const checkout = resolve(dirname(DAZZLE), "../../..");
  const args = [
    "-m",
    "bash",
    "-c",
    SESSION,
    "_",
    process.execPath,
    checkout,
    relative(checkout, DAZZLE),
    home,
    workspace.directory("space"),
  ];
  const output = await ok("unshare", args, { environment: workspace.environment, timeoutMs: 180_000, cwd: "/" });
  t.is(output.slice(output.indexOf("written")), `written by nobody\n${NOBODY} ${NOBODY}\n`);
});
