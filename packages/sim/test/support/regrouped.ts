import { type Caller, currentVersion, type Group, type GroupChange, isDazzleError, type MemberId } from "@dazzle/core";
import { outdatedVersions } from "@dazzle/log";
import { type Disguise, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import type { ExecutionContext } from "ava";

export const ROOT = 1;
export const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const FLAGS = { open: O_RDWR, killPrivileges: false };
export const LIMIT_MS = 600_000;
const FILES = 12;
const NO_CHANGE = { group: "main", servers: [], parity: 0, force: false } as const;

function bytesOf(name: string): Buffer {
  const number = Number(name.replace(/\D/g, ""));
  return Buffer.alloc(number % 3 === 0 ? 60_000 : 3_000, `file ${name} `);
}

/** Machines of which the first manages and keeps, some of them in the group; and a mount that has written some files. `data`: the bound on the group's data fragments; or, where it
 * is asked for, a second group of all the others has it, and that one is told of. */
export async function begin(
  seed: number,
  nodes: number,
  inGroup: number,
  more: { readonly data?: number; readonly wide?: number; readonly disguise?: Disguise } = {},
) {
  const { data, wide, disguise } = more;
  const world = new World(seed);
  const cluster = new SimCluster(world, {
    ...{ limits: SMALL_LIMITS, nodes, parity: 1, servers: inGroup },
    ...(data === undefined ? {} : { data }),
    ...(disguise === undefined ? {} : { disguise }),
  });
  await cluster.startAll();
  await cluster.makeGroups();
  const { peers } = cluster.node(1);
  if (wide !== undefined) {
    const servers = cluster.numbers.slice(inGroup).map((number) => `node${number}`);
    await world.run(peers.call(1 as MemberId, "createGroup", { group: "wide", servers, parity: 1, data: wide }), LIMIT_MS);
  }
  const mount = await cluster.mount(1);
  const map = () => cluster.node(1).map.current;
  const group = () => map().groups[wide === undefined ? 0 : 1] as Group;
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const until = (condition: () => boolean) => world.run(condition, LIMIT_MS);
  const names: string[] = [];
  const write = async (name: string) => {
    const { fileSystem } = mount.mount;
    const { entry, file } = await fileSystem.create(CALLER, ROOT, name, 0o644, O_RDWR);
    const { ino } = entry.attributes;
    await fileSystem.write(CALLER, ino, file.handle, 0, bytesOf(name), FLAGS);
    await fileSystem.fsync(CALLER, ino, file.handle, false);
    await fileSystem.release(ino, file.handle, undefined);
    names.push(name);
  };
  for (let number = 0; number < FILES; number++) await run(() => write(`${number}`));
  const ask = (asked: Partial<GroupChange>) =>
    cluster.node(1).peers.call(1 as MemberId, "changeGroup", { ...NO_CHANGE, group: group().name, change: "add", ...asked });
  const lose = (server: string, force = false) => cluster.node(1).peers.call(1 as MemberId, "declareLost", { server, force });
  const shape = () => {
    const { dataFragments, parityFragments, servers } = currentVersion(group());
    return `${dataFragments}+${parityFragments} ${servers.map(({ member }) => member)}`;
  };
  const isMoved = () => outdatedVersions(map(), group()).length === 0;
  return { world, cluster, mount, map, group, run, until, write, ask, lose, shape, isMoved, names };
}

export type Begun = Awaited<ReturnType<typeof begin>>;

/** Writes on until `isOver`. */
export async function writeWhile({ world, run, write, names }: Begun, isOver: () => boolean, most = 400): Promise<void> {
  for (let count = 0; !isOver() && count < most; count++) {
    await run(() => write(`${names.length}`));
    await world.advance(200);
  }
}

/** Every file, as a mount reads it that has nothing in memory: its bytes, or its errno. */
export async function readAll({ cluster, run, names }: Begun): Promise<string[]> {
  const { client } = (await cluster.mount()) as SimMount;
  const read = async (name: string) => {
    try {
      const { attributes } = await client.fileSystem.lookup(CALLER, ROOT, name);
      const { handle } = await client.fileSystem.open(CALLER, attributes.ino, 0);
      const pieces = await client.fileSystem.read(CALLER, attributes.ino, handle, 0, attributes.size);
      return Buffer.concat(pieces).equals(bytesOf(name)) ? "whole" : "wrong";
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return error.errno;
    }
  };
  const found = new Set<string>();
  for (const name of names) found.add(await run(() => read(name)));
  return [...found].sort();
}

export async function isClean(t: ExecutionContext, { cluster }: Begun): Promise<void> {
  const { findings, lost } = await cluster.fsck();
  t.deepEqual([...findings, ...lost], []);
}
