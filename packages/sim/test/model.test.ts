import { BLOCK_BYTES, DazzleError, type FileSystem, REGION_BLOCKS } from "@dazzle/core";
import {
  type Action,
  DEFAULT_WEIGHTS,
  History,
  MismatchError,
  type Operation,
  observe,
  RecoveryError,
  SeededRandom,
  Workload,
} from "@dazzle/sim";
import test from "ava";
import { Checks } from "../src/model/checks.ts";
import { CrashableFileSystem } from "./support/crashable-file-system.ts";

const ROOT = { mode: 0o777, uid: 0, gid: 0 };
/** Nothing later needs them. */
const CHANGES_OF_ONE_FILE = new Set(["write", "setAttributes", "setExtendedAttribute"]);
const CALLER = { uid: 0, gid: 0, pid: 1 };

function started(seed: number, mounts = ["mount"]) {
  const random = new SeededRandom(seed);
  const subject = new CrashableFileSystem();
  const history = new History(1, ROOT);
  const workloads = mounts.map(
    (mount) => new Workload({ fileSystem: subject.fileSystem, history, mount, random: random.fork(mount), fileBytes: 20_000 }),
  );
  return { random, subject, history, workloads, workload: workloads[0] as Workload };
}

const seen = (fileSystem: FileSystem) => observe(fileSystem, 1, CALLER);

test("a filesystem that works agrees with the model in every answer, and every action is carried out", async (t) => {
  const counts = new Map<Action | "refused", number>();
  for (let seed = 0; seed < 3; seed++) {
    const { workload, subject } = started(seed);
    for (let step = 0; step < 700; step++) await workload.step();
    await workload.verify();
    await workload.quit();
    for (const node of subject.memory.nodes.values()) t.is(node.references + node.opens, 0);
    for (const [action, count] of workload.counts) counts.set(action, (counts.get(action) ?? 0) + count);
  }
  for (const action of [...(Object.keys(DEFAULT_WEIGHTS) as Action[]), "refused" as const]) t.true((counts.get(action) ?? 0) > 5, action);
});

test("a name that is refused as it is taken says nothing of what has it, and that the directory's changes are durable", async (t) => {
  const history = new History(1, ROOT);
  const create = (): Operation => ({ kind: "create", id: history.newId(), parent: 0, name: "a", uid: 0, gid: 0, mode: 0o644 });
  const first = create();
  history.begin("one", first);
  history.begin("one", { kind: "setMode", id: first.id, mode: 0o600 });
  t.is(history.unsynced, 2);
  const checks = new Checks(history, "other", { refused: () => {}, full: () => false });
  const refuse = () => {
    throw new DazzleError("exists", "a");
  };
  t.is(await checks.change(create(), refuse), undefined);
  t.is(history.unsynced, 1);
});

test("one seed decides what a workload does", async (t) => {
  const journals = await Promise.all(
    [5, 5].map(async (seed) => {
      const { workload, subject } = started(seed);
      for (let step = 0; step < 200; step++) await workload.step();
      return subject.journal;
    }),
  );
  t.deepEqual(journals[0], journals[1]);
});

test("after a crash the tree is that of a prefix with all that was synced, and the workload goes on from there", async (t) => {
  let lost = 0;
  for (let seed = 0; seed < 10; seed++) {
    const { random, workload, history, subject } = started(seed);
    let running = subject;
    for (let round = 0; round < 6; round++) {
      for (let step = 0; step < 60; step++) await workload.step();
      const kept = running.synced + random.below(running.journal.length - running.synced + 1);
      running = running.crash(kept);
      lost += history.recovered(await seen(running.fileSystem), ["mount"]).lost;
      workload.remounted(running.fileSystem);
      await workload.verify();
    }
  }
  t.true(lost > 50);
});

test("a crash that loses what was synced is found", async (t) => {
  let found = 0;
  for (let seed = 0; seed < 20; seed++) {
    const { workload, history, subject } = started(seed);
    for (let step = 0; step < 50; step++) await workload.step();
    await workload.sync();
    const lastChange = subject.journal.findLastIndex((call) => call.method === "create" || call.method === "makeDirectory");
    const after = subject.crash(lastChange);
    const error = await t.throwsAsync(async () => history.recovered(await seen(after.fileSystem), ["mount"]), {
      instanceOf: RecoveryError,
    });
    if (error?.message.includes("missing")) found++;
  }
  t.true(found > 0);
});

test("a crash that loses an operation in the middle is found", async (t) => {
  let found = 0;
  let same = 0;
  for (let seed = 0; seed < 40; seed++) {
    const { random, workload, history, subject } = started(seed);
    for (let step = 0; step < 150; step++) await workload.step();
    const calls = [...subject.journal.entries()].slice(-60).filter(([, call]) => CHANGES_OF_ONE_FILE.has(call.method));
    const after = subject.crash(subject.journal.length, random.pick(calls)[0]);
    try {
      history.recovered(await seen(after.fileSystem), ["mount"]);
      same++;
    } catch (error) {
      if (!(error instanceof RecoveryError)) throw error;
      found++;
    }
  }
  t.true(found > 10, `${found} found, ${same} made no difference in the end`);
});

test("a wrong answer, a missing failure and a wrong failure are each found", async (t) => {
  const wrongs: ReadonlyArray<(subject: CrashableFileSystem) => Partial<FileSystem>> = [
    ({ memory }) => ({ read: (...call) => (memory.read(...call) as Uint8Array[]).map((piece) => Buffer.from(piece).fill(7)) }),
    ({ memory }) => ({ lookup: (caller, parent) => memory.lookup(caller, parent, ".") }),
    () => ({ removeDirectory: () => {} }),
    () => ({
      link: () => {
        throw new DazzleError("inputOutput", "planted");
      },
    }),
    ({ memory }) => ({ write: (...call) => (memory.write(...call) as number) - 1 }),
    ({ memory }) => ({ readDirectory: (...call) => (call[3] > 0 ? [] : memory.readDirectory(...call)) }),
  ];
  for (const wrong of wrongs) {
    const { subject, random, history } = started(3);
    const planted = wrong(subject);
    const fileSystem = new Proxy(subject.fileSystem, {
      get: (target, property) => Reflect.get(planted, property) ?? Reflect.get(target, property),
    });
    const workload = new Workload({ fileSystem, history, mount: "mount", random, fileBytes: 20_000 });
    await t.throwsAsync(
      async () => {
        for (let step = 0; step < 2_000; step++) await workload.step();
      },
      { instanceOf: MismatchError },
    );
  }
});

test("a write that a crash cut off between two blocks is allowed, one within a block is not", async (t) => {
  const data = Buffer.alloc(10_000, 7);
  const left = async (bytes: number) => {
    const history = new History(1, ROOT);
    const id = history.newId();
    history.begin("one", { kind: "create", id, parent: 0, name: "f", ...ROOT })();
    history.begin("one", { kind: "write", id, offset: 1_000, data })();
    const { fileSystem } = new CrashableFileSystem();
    const { entry, file } = await fileSystem.create(CALLER, 1, "f", 0o777, 2);
    const flags = { open: 2, killPrivileges: false };
    await fileSystem.write(CALLER, entry.attributes.ino, file.handle, 1_000, data.subarray(0, bytes), flags);
    return history.recovered(await seen(fileSystem), ["one"]);
  };
  for (const end of [4_096, 8_192, 11_000]) t.is((await left(end - 1_000)).kept, 2);
  for (const end of [4_097, 10_999]) await t.throwsAsync(left(end - 1_000), { instanceOf: RecoveryError });
});

test("two mounts take turns; of one that crashed a suffix is lost that the other has not seen", async (t) => {
  const history = new History(1, ROOT);
  const create = (name: string): Operation => ({ kind: "create", id: history.newId(), parent: 0, name, ...ROOT });
  const begun = (mount: string, operation: Operation) => history.begin(mount, operation)();
  begun("one", { kind: "makeDirectory", id: history.newId(), parent: 0, name: "d", ...ROOT });
  begun("other", create("b"));
  begun("one", { kind: "setMode", id: 1, mode: 0o700 });
  t.is(history.unsynced, 2);
  const subject = new CrashableFileSystem();
  await subject.fileSystem.makeDirectory(CALLER, 1, "d", 0o777);
  await subject.fileSystem.create(CALLER, 1, "b", 0o777, 0);
  const observed = await seen(subject.fileSystem);
  t.throws(() => history.recovered(observed, ["other"]), { instanceOf: RecoveryError, message: /\/d\/ has the mode/ });
  t.deepEqual(history.recovered(observed, ["one"]), { kept: 1, lost: 1 });
  t.is(history.unsynced, 0);
});

test("a mount that writes a part of a file has not seen what another one wrote in another part, but all that it did to the whole file", async (t) => {
  const history = new History(1, ROOT);
  const begun = (mount: string, operation: Operation) => history.begin(mount, operation)();
  const id = history.newId();
  const data = Buffer.from("data");
  const write = (region: number): Operation => ({ kind: "write", id, offset: region * REGION_BLOCKS * BLOCK_BYTES, data });
  begun("one", { kind: "create", id, parent: 0, name: "f", ...ROOT });
  begun("one", { kind: "setMode", id, mode: 0o700 });
  begun("one", write(0));
  begun("other", write(2));
  t.is(history.unsynced, 2);
  begun("other", { kind: "setAttribute", id, name: "user.a", value: data });
  t.is(history.unsynced, 2);
  begun("one", write(2));
  t.is(history.unsynced, 1);
});

test("who looks at what an operation was refused on has seen what was done to it before that, and nothing later", (t) => {
  const history = new History(1, ROOT);
  const begun = (mount: string, operation: Operation) => history.begin(mount, operation)();
  const id = history.newId();
  begun("one", { kind: "create", id, parent: 0, name: "f", ...ROOT });
  begun("one", { kind: "create", id: history.newId(), parent: 0, name: "g", ...ROOT });
  begun("one", { kind: "write", id, offset: 0, data: Buffer.from("data") });
  history.retract();
  begun("other", { kind: "setMode", id, mode: 0o700 });
  t.is(history.unsynced, 2);
});

test("of two mounts that crash, each keeps what it synced", async (t) => {
  const history = new History(1, ROOT);
  const create = (parent: number, name: string): Operation => ({ kind: "create", id: history.newId(), parent, name, ...ROOT });
  for (const name of ["d", "e"]) history.begin("one", { kind: "makeDirectory", id: history.newId(), parent: 0, name, ...ROOT })();
  history.synced("one", history.lastNumber);
  history.begin("one", create(1, "x"))();
  history.begin("other", create(2, "y"))();
  history.synced("other", history.lastNumber);
  t.is(history.unsynced, 1);
  const { fileSystem } = new CrashableFileSystem();
  await fileSystem.makeDirectory(CALLER, 1, "d", 0o777);
  const { attributes } = await fileSystem.makeDirectory(CALLER, 1, "e", 0o777);
  const withoutBoth = await seen(fileSystem);
  t.throws(() => history.recovered(withoutBoth, ["one", "other"]), { instanceOf: RecoveryError, message: /\/e\/y is missing/ });
  await fileSystem.create(CALLER, attributes.ino, "y", 0o777, 0);
  t.deepEqual(history.recovered(await seen(fileSystem), ["one", "other"]), { kept: 1, lost: 1 });
});

test("two mounts of a filesystem that works agree with one model", async (t) => {
  const { workloads, random } = started(9, ["one", "other"]);
  for (let step = 0; step < 600; step++) await random.pick(workloads).step();
  for (const workload of workloads) await t.notThrowsAsync(workload.verify());
});
