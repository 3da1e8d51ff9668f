import { isDeepStrictEqual } from "node:util";
import { type DiskFile, type FileSystem, joined, type OrderedStore } from "@dazzle/core";
import { type CrashChoices, type Disguise, nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { skippedSync } from "./support/plants.ts";

const ROOT = 1;
const CALLER = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const LIMIT_MS = 120_000;
const SETTLING_MS = 2_500;
/** Of the crash points of a workload, every so many-th; all of them in a long run. */
const STRIDE = process.env.DAZZLE_LONG === "1" ? 1 : 5;

/** What a tree holds: files by name, with their bytes as text. */
type Tree = Readonly<Record<string, string>>;

/** An operation, and what it makes of a tree. */
interface Step {
  readonly name: string;
  run(fileSystem: FileSystem): Promise<void>;
  after(tree: Tree): Tree;
}

/** One of the ways in which the sectors that were not synced survive. */
const SURVIVALS: Readonly<Record<string, () => CrashChoices>> = {
  "nothing unsynced": () => ({ pick: (items) => items[0] as never, chance: (probability) => probability >= 1, below: () => 0 }),
  "everything unsynced": () => ({
    pick: (items) => items[items.length - 1] as never,
    chance: (probability) => probability > 0,
    below: (bound) => bound - 1,
  }),
  "every other sector": () => alternating(false),
  "the other sectors": () => alternating(true),
};

function alternating(first: boolean): CrashChoices {
  let turn = first;
  const next = () => {
    turn = !turn;
    return turn;
  };
  return {
    pick: (items) => items[Math.floor(items.length / 2)] as never,
    chance: (probability) => (probability > 0 && probability < 1 ? next() : probability >= 1),
    below: (bound) => Math.floor(bound / 2),
  };
}

async function withFile<T>(fileSystem: FileSystem, name: string, use: (ino: number, handle: number) => Promise<T>): Promise<T> {
  const { attributes } = await fileSystem.lookup(CALLER, ROOT, name);
  const { handle } = await fileSystem.open(CALLER, attributes.ino, O_RDWR);
  try {
    return await use(attributes.ino, handle);
  } finally {
    await fileSystem.release(attributes.ino, handle, undefined);
  }
}

function create(name: string, text: string): Step {
  return {
    name: `create ${name}`,
    run: async (fileSystem) => {
      const { entry, file } = await fileSystem.create(CALLER, ROOT, name, 0o644, O_RDWR);
      await fileSystem.release(entry.attributes.ino, file.handle, undefined);
      if (text !== "") await write(name, 0, text).run(fileSystem);
    },
    after: (tree) => ({ ...tree, [name]: text }),
  };
}

function write(name: string, offset: number, text: string): Step {
  return {
    name: `write ${name} at ${offset}`,
    run: (fileSystem) =>
      withFile(fileSystem, name, async (ino, handle) => {
        await fileSystem.write(CALLER, ino, handle, offset, Buffer.from(text), { open: O_RDWR, killPrivileges: false });
      }),
    after: (tree) => {
      const before = (tree[name] as string).padEnd(offset, "\0");
      return { ...tree, [name]: before.slice(0, offset) + text + before.slice(offset + text.length) };
    },
  };
}

function resize(name: string, size: number): Step {
  return {
    name: `resize ${name} to ${size}`,
    run: (fileSystem) =>
      withFile(fileSystem, name, async (ino, handle) => {
        await fileSystem.setAttributes(CALLER, ino, { size }, handle);
      }),
    after: (tree) => ({ ...tree, [name]: (tree[name] as string).slice(0, size).padEnd(size, "\0") }),
  };
}

function rename(from: string, to: string): Step {
  return {
    name: `rename ${from} to ${to}`,
    run: async (fileSystem) => fileSystem.rename(CALLER, ROOT, from, ROOT, to, 0),
    after: ({ [from]: moved, ...rest }) => ({ ...rest, [to]: moved as string }),
  };
}

function unlink(name: string): Step {
  return {
    name: `unlink ${name}`,
    run: async (fileSystem) => fileSystem.unlink(CALLER, ROOT, name),
    after: ({ [name]: _removed, ...rest }) => rest,
  };
}

function link(name: string, other: string): Step {
  return {
    name: `link ${name} as ${other}`,
    run: async (fileSystem) => {
      const { attributes } = await fileSystem.lookup(CALLER, ROOT, name);
      await fileSystem.link(CALLER, attributes.ino, ROOT, other);
    },
    after: (tree) => ({ ...tree, [other]: tree[name] as string }),
  };
}

const A = "a".repeat(9_000);
const B = "b".repeat(30_000);
/** What is there, and durable, before each workload. */
const BEFORE: Tree = { a: A, b: B };

/** Two operations each, of which each is followed by an fsync. As ACE has them: what one changes the other uses. */
const WORKLOADS: readonly (readonly [Step, Step])[] = [
  [create("c", "new"), rename("c", "a")],
  [write("a", 4_096, "x".repeat(4_096)), write("a", 4_000, "y".repeat(200))],
  [write("b", 30_000, "z".repeat(20_000)), resize("b", 35_000)],
  [rename("a", "c"), create("a", "again")],
  [unlink("a"), create("a", "again")],
  [link("a", "c"), rename("c", "b")],
  [resize("b", 5_000), write("b", 8_192, "behind a hole")],
  [link("b", "c"), unlink("b")],
];

async function sync(fileSystem: FileSystem): Promise<void> {
  await fileSystem.fsyncDirectory(CALLER, ROOT, false);
}

async function treeOf(fileSystem: FileSystem): Promise<Tree> {
  const handle = await fileSystem.openDirectory(CALLER, ROOT);
  const entries = await fileSystem.readDirectory(CALLER, ROOT, handle, 0, 100, false);
  fileSystem.releaseDirectory(ROOT, handle);
  const tree: Record<string, string> = {};
  for (const { name } of entries.filter((entry) => entry.name !== "." && entry.name !== ".."))
    tree[name] = await withFile(fileSystem, name, async (ino, file) => {
      const { attributes } = await fileSystem.getAttributes(CALLER, ino, undefined);
      return Buffer.from(joined(await fileSystem.read(CALLER, ino, file, 0, attributes.size))).toString();
    });
  return tree;
}

/** Counts what storage servers do to their disks: each call that changes something is a point as it begins, and another as it ends. */
class Points {
  count = 0;
  /** Where the crash comes; never where it is 0. */
  crashAt = 0;
  isCounting = false;

  get isReached(): boolean {
    return this.crashAt > 0 && this.count >= this.crashAt;
  }

  readonly #plant: Disguise;

  constructor(plant: Disguise) {
    this.#plant = plant;
  }

  readonly disguise: Disguise = {
    disk: (disk, instance) =>
      this.#counted(this.#plant.disk?.(disk, instance) ?? disk, ["replace", "remove", "syncDirectory", "makeDirectory"], {
        open: "file",
        openIndex: "index",
      }),
  };

  #counted<T extends object>(target: T, changing: readonly string[], opening: Readonly<Record<string, "file" | "index">> = {}): T {
    return new Proxy(target, {
      get: (inner, property) => {
        const value: unknown = Reflect.get(inner, property, inner);
        if (typeof value !== "function") return value;
        const call = value.bind(inner) as (...parameters: unknown[]) => Promise<object>;
        const opened = opening[String(property)];
        if (opened === "file")
          return async (...parameters: unknown[]) =>
            this.#counted((await call(...parameters)) as DiskFile, ["write", "sync", "truncate", "punchHole"]);
        if (opened === "index")
          return async (...parameters: unknown[]) => this.#counted((await call(...parameters)) as OrderedStore, ["commit"]);
        if (!changing.includes(String(property))) return call;
        return (...parameters: unknown[]) => {
          this.#pass();
          const done = call(...parameters);
          const ended = () => this.#pass();
          done.then(ended, ended);
          return done;
        };
      },
    });
  }

  #pass(): void {
    if (this.isCounting && !this.isReached) this.count++;
  }
}

/** For a failure's text. */
function brief(tree: Tree): readonly string[] {
  return Object.entries(tree).map(([name, text]) => `${name}: ${text.length} bytes, ${text.slice(0, 12)} … ${text.slice(-12)}`);
}

interface Outcome {
  readonly points: number;
  /** Undefined where the workload was over before. */
  readonly recovered: Tree | undefined;
  /** After how many steps an fsync had returned. */
  readonly synced: number;
}

interface Setting {
  readonly nodes: number;
  readonly parity: number;
  /** Nodes that do not come back after the crash. */
  readonly lost: readonly number[];
  readonly plant?: Disguise;
}

const ONE_PARITY: Setting = { nodes: 3, parity: 1, lost: [] };
/** The power of all fails, and the disks of two don't survive it. */
const TWO_PARITIES: Setting = { nodes: 5, parity: 2, lost: [3, 5] };
/** In place of `STRIDE`: a prime, so that it meets every kind of point. */
const TWO_PARITIES_STRIDE = process.env.DAZZLE_LONG === "1" ? 1 : 13;

/** Runs the workload up to a crash point at which the power of all disks fails, and recovers. */
async function crashed(
  workload: readonly Step[],
  crashAt: number,
  choices: () => CrashChoices,
  { nodes, parity, lost, plant }: Setting = ONE_PARITY,
): Promise<Outcome> {
  const world = new World("crash points");
  const points = new Points(plant ?? {});
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes, parity, disguise: points.disguise });
  await cluster.startAll();
  const { client } = await cluster.mount();
  for (const [name, text] of Object.entries(BEFORE)) await world.run(create(name, text).run(client.fileSystem), LIMIT_MS);
  await world.run(sync(client.fileSystem), LIMIT_MS);
  points.isCounting = true;
  points.crashAt = crashAt;
  let synced = 0;
  let isDone = false;
  const running = (async () => {
    for (const step of workload) {
      await step.run(client.fileSystem);
      await sync(client.fileSystem);
      synced++;
    }
    isDone = true;
  })();
  running.catch(() => {});
  await world.run(() => isDone || points.isReached, LIMIT_MS);
  // What its manager, the index and the scrub write of it comes later.
  if (isDone) {
    const endMs = world.nowMs + SETTLING_MS;
    await world.run(() => world.nowMs >= endMs || points.isReached, LIMIT_MS);
  }
  points.isCounting = false;
  if (!points.isReached) return { points: points.count, recovered: undefined, synced };
  const at = synced;
  for (const number of cluster.numbers) world.drive(nodeName(number)).crashChoices = choices();
  world.powerCut();
  for (const number of cluster.numbers) world.drive(nodeName(number)).crashChoices = null;
  const left = cluster.numbers.filter((number) => !lost.includes(number));
  await world.run(Promise.all(left.map((number) => cluster.launchNode(number))), LIMIT_MS);
  await world.run(cluster.node(1).managing, LIMIT_MS);
  const { client: after } = await cluster.mount();
  return { points: points.count, recovered: await world.run(treeOf(after.fileSystem), LIMIT_MS), synced: at };
}

const SETTINGS = [
  ...WORKLOADS.map((workload, number) => ({ what: "", workload, setting: ONE_PARITY, first: 1 + (number % STRIDE), stride: STRIDE })),
  ...[WORKLOADS[1] as (typeof WORKLOADS)[number]].map((workload) => ({
    what: ", and two disks are lost",
    ...{ workload, setting: TWO_PARITIES, first: 1, stride: TWO_PARITIES_STRIDE },
  })),
];

for (const { what, workload, setting, first, stride } of SETTINGS)
  test.serial(
    `wherever the power fails${what}, what an fsync returned for is there: ${workload.map(({ name }) => name).join(", ")}`,
    async (t) => {
      const states = [BEFORE];
      for (const step of workload) states.push(step.after(states.at(-1) as Tree));
      const { points } = await crashed(workload, 0, () => alternating(false), setting);
      let crashes = 0;
      const kept = new Set<number>();
      for (let point = first; point <= points; point += stride)
        for (const [survival, choices] of Object.entries(SURVIVALS)) {
          const { recovered, synced } = await crashed(workload, point, choices, setting);
          const index = states.findIndex((state) => isDeepStrictEqual(state, recovered));
          const at = `point ${point} of ${points}, ${survival}, ${synced} steps synced`;
          if (index < synced) t.deepEqual(brief(recovered as Tree), brief(states[synced] as Tree), at);
          t.true(index >= synced, at);
          kept.add(index);
          crashes++;
        }
      t.log(`${points} crash points, ${crashes} crashes`);
      t.true(kept.has(2) && kept.size > 1, "crashes come before and after");
    },
  );

test.serial("the enumeration finds a disk that does nothing at a sync", async (t) => {
  const workload = WORKLOADS[0] as (typeof WORKLOADS)[0];
  const { points } = await crashed(workload, 0, () => alternating(false), { ...ONE_PARITY, plant: skippedSync });
  const last = await crashed(workload, points, () => alternating(false), { ...ONE_PARITY, plant: skippedSync }).then(
    ({ recovered }) => JSON.stringify(recovered),
    (error: Error) => error.message,
  );
  t.not(last, JSON.stringify(workload.reduce((tree, step) => step.after(tree), BEFORE)));
});
