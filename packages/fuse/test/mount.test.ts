import { readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { type Answer, type Caller, DazzleError, type Entry } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { abortAndUnmount, type EngineKind, findMount, MountError, mountFileSystem, Watchdog } from "../src/index.ts";
import { MemoryFileSystem } from "./support/memory-file-system.ts";
import { elsewhere, mounted, type Running, run, start, startElsewhere, temporaryDirectory, until } from "./support/mounted.ts";

const ENGINES: readonly EngineKind[] = ["addon", "node"];

for (const engine of ENGINES) {
  test.serial(`${engine}: extended attributes are set, read, listed and removed`, async (t) => {
    const { root } = await mounted(t, engine, new MemoryFileSystem());
    await writeFile(`${root}/file`, "");
    const long = "y".repeat(5000);
    const output = await run("perl", [
      "-e",
      `sub call { my $c = shift; my $r = syscall($c, @_); return $r < 0 ? "error " . ($!+0) : $r } my ($set, $get, $list, $remove) = (${xattrCalls()});
       my ($f, $n, $m) = ("${root}/file", "user.one", "user.two"); my ($v, $l) = ("value", "${long}"); my $b = " " x 6000; my $none = "user.none";
       print join(",", call($set, $f, $n, $v, 5, 0), call($set, $f, $m, $l, 5000, 0), call($set, $f, $n, $v, 5, 1), call($set, $f, $none, $v, 5, 2),
         call($get, $f, $n, $b, 0), call($get, $f, $n, $b, 6000), substr($b, 0, 5), call($get, $f, $m, $b, 100), call($get, $f, $m, $b, 6000), call($get, $f, $none, $b, 6000),
         call($list, $f, $b, 0), call($list, $f, $b, 6000), join("+", split(/\\0/, substr($b, 0, 18))), call($remove, $f, $n), call($remove, $f, $n), call($list, $f, $b, 6000))`,
    ]);
    t.is(output, "0,0,error 17,error 61,5,5,value,error 34,5000,error 61,18,18,user.one+user.two,0,error 61,9");
  });

  test.serial(`${engine}: a name that isn't there is remembered as long as allowed, and no longer than it is invalidated`, async (t) => {
    const fileSystem = new MemoryFileSystem();
    fileSystem.negativeValidMs = 3_600_000;
    const { root, mount } = await mounted(t, engine, fileSystem);
    const exists = (): Promise<boolean> => elsewhere((fs, root) => fs.existsSync(`${root}/later`), root);
    t.false(await exists());
    const asked = mount.counters.requestsOf("lookup");
    t.false(await exists());
    t.is(mount.counters.requestsOf("lookup"), asked, "the second miss is the kernel's");
    // Made elsewhere: the kernel doesn't know.
    await fileSystem.create(ROOT, 1, "later", 0o644, 0);
    t.false(await exists());
    await mount.notifier.invalidateEntry(1, "later");
    t.true(await exists());
  });

  test.serial(`${engine}: attributes and pages are the kernel's until they are invalidated`, async (t) => {
    const fileSystem = new MemoryFileSystem();
    fileSystem.validMs = 3_600_000;
    const { root, mount } = await mounted(t, engine, fileSystem);
    const size = (): Promise<number> => elsewhere((fs, root) => fs.statSync(`${root}/file`).size, root);
    const text = (): Promise<string> => elsewhere((fs, root) => fs.readFileSync(`${root}/file`, "utf8"), root);
    await elsewhere((fs, root) => fs.writeFileSync(`${root}/file`, "old"), root);
    t.is(await text(), "old");
    t.is(await size(), 3);
    // Written elsewhere.
    const { ino } = fileSystem.find("file");
    const { handle } = await fileSystem.open(ROOT, ino, 0);
    await fileSystem.write(ROOT, ino, handle, 0, Buffer.from("anew!"), { open: 0, killPrivileges: false });
    t.is(await size(), 3);
    await mount.notifier.invalidateInode(ino, 0, -1);
    t.is(await size(), 5);
    t.is(await text(), "old\0\0", "the page is still there");
    t.true(await mount.notifier.invalidateInode(ino, 0, 0));
    t.is(await text(), "anew!");
    // What the kernel never heard of is not cached either.
    t.false(await mount.notifier.invalidateInode(987_654, 0, 0));
    await mount.notifier.invalidateEntry(987_654, "name");
    await mount.notifier.invalidateEntry(1, "no such name");
  });

  test.serial(`${engine}: notifications about objects with a request pending wait for it without stopping the mount`, async (t) => {
    const fileSystem = new HeldFileSystem();
    const { root, mount } = await mounted(t, engine, fileSystem);
    const making = startElsewhere((fs, root) => fs.mkdirSync(`${root}/held`), root);
    await until(() => fileSystem.held > 0);
    // The kernel holds the directory's lock for mkdir; these need it too.
    let notified = 0;
    const notifications = Array.from({ length: 100 }, async (_nothing, index) => {
      await mount.notifier.invalidateEntry(1, `name ${index}`);
      notified += 1;
    });
    // Other requests are served meanwhile, and this thread runs.
    await fileSystem.create(ROOT, 1, "file", 0o644, 0);
    t.is(await elsewhere((fs, root) => fs.statfsSync(root).blocks, root), 1_000_000);
    await mount.notifier.incrementEpoch();
    t.is(notified, 0);
    fileSystem.letGo();
    t.is((await making.done).status, 0);
    await Promise.all(notifications);
    t.is(notified, 100);
  });

  test.serial(`${engine}: an interrupt aborts the caller's signal, and a killed process leaves nothing pending`, async (t) => {
    const fileSystem = new MemoryFileSystem();
    const { root, mount } = await mounted(t, engine, fileSystem);
    const script = `use Fcntl ":flock"; $| = 1; open(F, ">", "${root}/lock"); flock(F, LOCK_EX); print "locked"; sleep 600`;
    const holder = start("perl", ["-e", script]);
    t.teardown(() => holder.kill("SIGKILL"));
    await holder.printed("locked");
    t.is((await start("flock", ["-n", "-E", "9", `${root}/lock`, "true"]).done).status, 9, "LOCK_NB fails");
    const waiter = start("flock", [`${root}/lock`, "true"]);
    await until(() => fileSystem.locks.waiting === 1);
    waiter.kill("SIGTERM");
    t.is((await waiter.done).signal, "SIGTERM");
    t.is(fileSystem.locks.waiting, 0);
    t.true(mount.counters.requestsOf("interrupt") >= 1);
    t.is(mount.counters.inFlight, 0);
    // The one that waits without being interrupted gets it in the end.
    const patient = start("flock", [`${root}/lock`, "true"]);
    await until(() => fileSystem.locks.waiting === 1);
    holder.kill("SIGKILL");
    t.is((await patient.done).status, 0);
  });

  test.serial(`${engine}: record locks keep processes apart, range by range`, async (t) => {
    const { root } = await mounted(t, engine, new MemoryFileSystem());
    await writeFile(`${root}/file`, "0123456789");
    const lock = (command: string, type: string, from: number, length: number): string =>
      `{ my $l = pack("s s x4 q q l x4", ${type}, 0, ${from}, ${length}, 0); fcntl(F, ${command}, $l) or print "no "; }`;
    const opening = `use Fcntl; $| = 1; open(F, "+<", "${root}/file") or die;`;
    const holder = start("perl", ["-e", `${opening} ${lock("F_SETLK", "F_WRLCK", 2, 4)} print "locked"; sleep 600`]);
    t.teardown(() => holder.kill("SIGKILL"));
    await holder.printed("locked");
    const asks = `${opening} ${lock("F_SETLK", "F_WRLCK", 0, 2)} ${lock("F_SETLK", "F_RDLCK", 5, 1)} ${lock("F_SETLK", "F_RDLCK", 6, 0)}`;
    const get = `my $l = pack("s s x4 q q l x4", F_RDLCK, 0, 0, 0, 0); fcntl(F, F_GETLK, $l); my @l = unpack("s s x4 q q l", $l); print "@l[0..3] ", $l[4] == ${holder.pid};`;
    t.is(await run("perl", ["-e", `${asks} ${get}`]), "no 1 0 2 4 1");
    holder.kill("SIGKILL");
    await holder.done;
    t.is(await run("perl", ["-e", asks]), "");
  });

  test.serial(`${engine}: failures reach the caller as their errno, unexpected ones as EIO with a line in the log`, async (t) => {
    const { root, log } = await mounted(t, engine, new FailingFileSystem());
    const codes = await elsewhere((fs, root) => {
      return ["noSpace", "readOnly", "accessDenied", "segmentLost", "bug", "later-noSpace", "later-bug"].map((name) => {
        try {
          fs.statSync(`${root}/${name}`);
          return "none";
        } catch (error) {
          return (error as NodeJS.ErrnoException).code;
        }
      });
    }, root);
    t.deepEqual(codes, ["ENOSPC", "EROFS", "EACCES", "EIO", "EIO", "ENOSPC", "EIO"]);
    t.is(log.length, 2);
    t.regex(log[0] ?? "", /lookup failed unexpectedly: .*a bug/);
    t.false((log[0] ?? "").includes("\n"));
  });

  test.serial(`${engine}: with few requests allowed in flight, all are answered all the same`, async (t) => {
    const fileSystem = new HeldFileSystem();
    const { root, mount } = await mounted(t, engine, fileSystem, { inFlightMax: 2 });
    const making = Array.from({ length: 6 }, (_nothing, index) => start("sh", ["-c", `mkdir ${root}/parent-${index} && echo made`]));
    await until(() => fileSystem.held > 0);
    const letting = setInterval(() => fileSystem.letGo(), 1);
    t.teardown(() => clearInterval(letting));
    for (const made of making) t.is((await made.done).output, "made\n");
    t.is(mount.counters.inFlight, 0);
  });

  test.serial(`${engine}: a read-only mount refuses to write`, async (t) => {
    const { root, mount } = await mounted(t, engine, new MemoryFileSystem(), { readOnly: true, name: "a name" });
    const { status, errors } = await start("touch", [`${root}/file`]).done;
    t.is(status, 1);
    t.regex(errors, /Read-only file system/);
    const { source, type, connection, readOnly } = findMount(root) ?? t.fail();
    t.deepEqual([source, type, connection, readOnly], ["a name", "fuse.dazzle", mount.connection, true]);
  });

  test.serial(`${engine}: somebody else's umount ends it cleanly`, async (t) => {
    const { root, mount, log } = await mounted(t, engine, new MemoryFileSystem());
    await run("umount", [root]);
    await mount.closed;
    t.is(findMount(root), undefined);
    await mount.unmount();
    await mount.notifier.invalidateInode(1, 0, 0);
    t.deepEqual(log, []);
  });

  test.serial(`${engine}: unmounting while files are open and requests pend fails those, not the unmounting`, async (t) => {
    const fileSystem = new HeldFileSystem();
    const { root, mount } = await mounted(t, engine, fileSystem);
    const busy = startElsewhere((fs, root) => {
      fs.openSync(root, "r");
      fs.mkdirSync(`${root}/never`);
    }, root);
    await until(() => fileSystem.held > 0);
    const waiting = mount.notifier.invalidateEntry(1, "never");
    await mount.unmount();
    await waiting;
    t.is(findMount(root), undefined);
    t.not((await busy.done).status, 0);
    fileSystem.letGo();
  });

  test.serial(`${engine}: a frozen server's mount is ended from outside`, async (t) => {
    const mountpoint = `${await temporaryDirectory(t)}/mount`;
    const server = serve(t, mountpoint, engine);
    await server.printed("mounted");
    const connection = findMount(mountpoint)?.connection ?? 0;
    server.kill("SIGSTOP");
    const stuck = start("ls", [mountpoint]);
    await until(() => Number(readFileSync(`/sys/fs/fuse/connections/${connection}/waiting`, "utf8")) > 0);
    const watchdog = new Watchdog({
      ...{ mountpoint, connection, lastHeartbeatMs: () => undefined, nowMs: () => 0, stalledAfterMs: 1000 },
      onStalled: () => process.kill(server.pid, "SIGKILL"),
    });
    watchdog.check();
    t.true(await watchdog.ending);
    t.not((await stuck.done).status, 0);
    t.is(findMount(mountpoint), undefined);
    t.is((await server.done).signal, "SIGKILL");
    await rm(mountpoint, { recursive: true });
  });

  test.serial(`${engine}: a killed server's mount is cleared`, async (t) => {
    const mountpoint = `${await temporaryDirectory(t)}/mount`;
    const server = serve(t, mountpoint, engine);
    await server.printed("mounted");
    const connection = findMount(mountpoint)?.connection ?? 0;
    server.kill("SIGKILL");
    await server.done;
    t.truthy(findMount(mountpoint));
    t.true(await abortAndUnmount(mountpoint, connection));
    t.is(findMount(mountpoint), undefined);
    await rm(mountpoint, { recursive: true });
  });
}

test("ending a mount that is gone leaves alone whoever was given its number", async (t) => {
  const { root, mount } = await mounted(t, "node", new MemoryFileSystem());
  t.true(await abortAndUnmount(`${root}-gone`, mount.connection));
  t.truthy(findMount(root));
  t.deepEqual(await elsewhere((fs, root) => fs.readdirSync(root), root), []);
});

test("what can't be a mountpoint is refused with the reason", async (t) => {
  const directory = await temporaryDirectory(t);
  const attempt = async (mountpoint: string): Promise<string> => {
    const error = await t.throwsAsync(mountFileSystem(new MemoryFileSystem(), { mountpoint }), { instanceOf: MountError });
    t.false(error.message.includes("\n"));
    return error.message.replaceAll(directory, "");
  };
  t.is(
    await attempt(`${directory}/missing/mount`),
    "the directory /missing for the mountpoint /missing/mount does not exist; create it first",
  );
  await writeFile(`${directory}/file`, "");
  t.is(await attempt(`${directory}/file`), "the mountpoint /file is not a directory; choose another");
  t.regex(await attempt(`${directory}/file/mount`), /^\/file is not a directory|the directory \/file .* is not a directory/);
  await mkdir(`${directory}/full/entry`, { recursive: true });
  t.is(await attempt(`${directory}/full`), "the mountpoint /full is not empty, and a mount would hide what is in it; choose another");
  const mount = await mountFileSystem(new MemoryFileSystem(), { mountpoint: `${directory}/mount` });
  const again = await attempt(`${directory}/mount`);
  await mount.unmount();
  t.is(again, "dazzle (fuse.dazzle) is already mounted at /mount; unmount it first: umount /mount");
  for (const name of ["file", "full", "mount"]) await rm(`${directory}/${name}`, { recursive: true });
});

test("without /dev/fuse the message says so", async (t) => {
  const directory = await temporaryDirectory(t);
  const args = ["-m", "--propagation", "private", "sh", "-c", `mount -t tmpfs none /dev && exec "$@"`, "sh"];
  const here = dirname(fileURLToPath(import.meta.url));
  const { output, errors } = await start("unshare", [...args, ...serveCommand(`${directory}/mount`, "auto")], here).done;
  t.regex(output, /^MountError: there is no \/dev\/fuse; /, errors);
  await rm(`${directory}/mount`, { recursive: true });
});

test.serial("an ordinary user mounts through fusermount3", async (t) => {
  const found = await start("sh", ["-c", "command -v fusermount3"]).done;
  if (found.status !== 0) t.fail("this test needs fusermount3: apt-get install fuse3");
  const { output, errors } = await asNobody(
    t,
    "auto",
    'id -u; echo text > file; cat file; stat -c %u file; grep -c "$PWD .* - fuse.dazzle dazzle " /proc/self/mountinfo',
  );
  t.regex(output, /^mounted \d+ addon\n65534\ntext\n65534\n1\n\nclosed\n$/, errors);
});

test.serial("the pure engine serves an ordinary user's mount too", async (t) => {
  const { output, errors } = await asNobody(t, "node", "echo text > file; cat file");
  t.regex(output, /^mounted \d+ node\ntext\n\nclosed\n$/, errors);
});

test.serial("without fusermount3 an ordinary user is told which package to install", async (t) => {
  const { output } = await asNobody(t, "auto", "true", "PATH=/nonexistent");
  t.regex(output, /^MountError: the program fusermount3 is missing; install the package fuse3, or mount as root\n$/);
});

const ROOT: Caller = { uid: 0, gid: 0, pid: 0 };

/** Numbers of setxattr, getxattr, listxattr and removexattr, which no program that is always there calls. */
function xattrCalls(): string {
  return process.arch === "arm64" ? "5, 8, 11, 14" : "188, 191, 194, 197";
}

function serveCommand(mountpoint: string, engine: string): string[] {
  const script = fileURLToPath(new URL("support/serve.ts", import.meta.url));
  return [process.execPath, "--import=tsx", "--conditions=dazzle-source", script, mountpoint, engine];
}

function serve(t: ExecutionContext, mountpoint: string, engine: EngineKind): Running {
  const [program = "", ...args] = serveCommand(mountpoint, engine);
  const server = start(program, args, dirname(fileURLToPath(import.meta.url)));
  t.teardown(async () => {
    server.kill("SIGKILL");
    const left = findMount(mountpoint);
    if (left !== undefined) await abortAndUnmount(mountpoint, left.connection);
  });
  return server;
}

/** In a mount namespace of its own, with a device that everybody may open. */
async function asNobody(
  t: ExecutionContext,
  engine: string,
  command: string,
  environment = "LC_ALL=C",
): Promise<{ output: string; errors: string }> {
  const directory = await temporaryDirectory(t);
  const device = `${directory}/fuse`;
  const mountpoint = `${directory}/mount`;
  const script = `
    set -e
    chmod 755 ${directory}; mkdir ${mountpoint}; chown 65534:65534 ${mountpoint}
    mknod -m 666 ${device} c 10 229; mount --bind ${device} /dev/fuse
    exec setpriv --reuid=65534 --regid=65534 --clear-groups env ${environment} "$@"`;
  const cwd = dirname(fileURLToPath(import.meta.url));
  const args = ["-m", "--propagation", "private", "sh", "-c", script, "sh", ...serveCommand(mountpoint, engine), command];
  const result = await start("unshare", args, cwd).done;
  await rm(device);
  await rm(mountpoint, { recursive: true });
  return result;
}

/** Keeps every mkdir waiting until told. */
class HeldFileSystem extends MemoryFileSystem {
  readonly #waiting: Array<() => void> = [];

  get held(): number {
    return this.#waiting.length;
  }

  letGo(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  override async makeDirectory(caller: Caller, parent: number, name: string, mode: number): Promise<Entry> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return super.makeDirectory(caller, parent, name, mode);
  }
}

/** Fails lookups in the way their name says. */
class FailingFileSystem extends MemoryFileSystem {
  override lookup(_caller: Caller, _parent: number, name: string): Answer<Entry> {
    const [first, second] = name.split("-");
    const error =
      (second ?? first) === "bug" ? new TypeError("a bug\nin two lines") : new DazzleError((second ?? first) as "noSpace", name);
    if (first === "later") return Promise.reject(error);
    throw error;
  }
}
