import { type FileSystem, slotOf } from "@dazzle/core";
import { SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";

export const ROOT = 1;
export const CALLER = { uid: 0, gid: 0, pid: 1 };
export const LIMIT_MS = 180_000;
/** Nothing that was planted is repaired before it is looked for. */
const NEVER_MS = 2 ** 31 - 1;

/** With two parities there are four nodes. */
export async function started(seed: number, managers = 1, parity: 1 | 2 = 1) {
  const world = new World(seed);
  const nodes = parity === 1 ? 3 : 4;
  const cluster = new SimCluster(world, { limits: { ...SMALL_LIMITS, scrubIntervalMs: NEVER_MS }, nodes, managers, parity });
  await cluster.startAll();
  return { world, cluster };
}

/** The manager that has an index number. */
export function hostOf(cluster: SimCluster, ino: number) {
  for (const number of cluster.numbers) {
    const host = cluster.node(number).manager?.parts.host;
    if (host?.has(slotOf(ino))) return host;
  }
  throw new Error(`nobody has ${ino}`);
}

/** The imap that has an index number, under the manager's real code. */
export function imapOf(cluster: SimCluster, ino: number) {
  return hostOf(cluster, ino).shardOf(ino).imap;
}

export interface Planted {
  readonly cluster: SimCluster;
  readonly mount: SimMount;
  readonly files: FileSystem;
  /** A directory with two directories in it, and a file with two blocks and an attribute. */
  readonly directory: number;
  readonly inner: number;
  readonly deeper: number;
  readonly file: number;
}

export async function planted(managers = 1, parity: 1 | 2 = 1): Promise<Planted> {
  const { world, cluster } = await started(5, managers, parity);
  const mount = await cluster.mount();
  const { client } = mount;
  const files = client.fileSystem;
  const run = <T>(answer: T | Promise<T>) => world.run(Promise.resolve(answer), LIMIT_MS);
  const makeDirectory = async (parent: number, name: string) =>
    (await run(files.makeDirectory(CALLER, parent, name, 0o755))).attributes.ino;
  const directory = await makeDirectory(ROOT, "directory");
  const inner = await makeDirectory(directory, "inner");
  const deeper = await makeDirectory(inner, "deeper");
  // In a segment of its own: no byte of a file is in there.
  await run(client.sync());
  const created = await run(files.create(CALLER, directory, "file", 0o644, 2));
  const file = created.entry.attributes.ino;
  const { handle } = created.file;
  await run(files.write(CALLER, file, handle, 0, Buffer.alloc(8_192, 1), { open: 2, killPrivileges: false }));
  await run(files.setExtendedAttribute(CALLER, file, "user.a", Buffer.from("1"), 0));
  await run(files.release(file, handle, undefined));
  await run(client.sync());
  return { cluster, mount, files, directory, inner, deeper, file };
}
