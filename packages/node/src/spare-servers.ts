import {
  type Clock,
  type ClusterMap,
  currentVersion,
  type Group,
  type GroupId,
  type GroupServer,
  type GroupVersion,
  isDazzleError,
  type Logger,
  type MapCache,
  type Member,
  type MemberId,
  type Peers,
  type StoreId,
  shapeOver,
  type Timer,
} from "@dazzle/core";
import { isStoreReached } from "./reached.ts";

/** Servers up to which a group grows by itself as machines join: wider stripes cost each segment more requests and win little. */
export const GROUP_WIDTH_MAX = 8;
/** Of so many servers a group is made by itself, or of two more than it has parities. */
const NEW_GROUP_SERVERS = 3;
/** Where who is spare is not reached, or the map can't be changed. */
const RETRY_MS = 5_000;

/** Whether a group takes servers as they join: the first one, and those that were made by themselves. */
function growsByItself(group: Group, first: Group | undefined): boolean {
  return group === first || group.name === nameOf(group.id);
}

function nameOf(id: GroupId): string {
  return `group${id}`;
}

function isFull(group: Group): boolean {
  return Math.max(group.wanted.length, currentVersion(group).servers.length) >= GROUP_WIDTH_MAX;
}

/** The groups with the member wanted in the first that grows by itself and has room, where it stores. */
export function wantedToo(groups: readonly Group[], { id, roles }: Pick<Member, "id" | "roles">): readonly Group[] {
  const open = groups.find((group) => growsByItself(group, groups[0]) && !isFull(group));
  if (open === undefined || !roles.includes("storage")) return groups;
  return groups.map((group) => (group === open ? { ...group, wanted: [...group.wanted, id] } : group));
}

/** The servers that no group wants, and no version of any names. */
function spareServers({ members, groups }: ClusterMap): readonly GroupServer[] {
  const named = ({ versions }: Group) => versions.flatMap(({ servers }) => servers.map(({ member }) => member));
  const taken = new Set(groups.flatMap((group) => [...group.wanted, ...named(group)]));
  return members.flatMap(({ id, store, leaving, roles }) =>
    store === null || leaving || taken.has(id) || !roles.includes("storage") ? [] : [{ member: id, store }],
  );
}

/** The servers that are in no group while those that grow by themselves are full, of those that are there, and how many more it takes to make a group of them. */
export function waitingServers(
  map: ClusterMap,
  isThere: (server: GroupServer) => boolean,
): { readonly servers: readonly GroupServer[]; readonly lacks: number } {
  const [first] = map.groups;
  const hasRoom = map.groups.some((group) => growsByItself(group, first) && !isFull(group));
  const servers = first === undefined || hasRoom ? [] : spareServers(map).filter(isThere);
  return { servers, lacks: Math.max(NEW_GROUP_SERVERS, (first?.parity ?? 0) + 2) - servers.length };
}

/** The map with one more group, of the servers that wait for one. Undefined while too few are there. */
export function withSpareGroup(map: ClusterMap, isThere: (server: GroupServer) => boolean): ClusterMap | undefined {
  const [first] = map.groups;
  const waiting = waitingServers(map, isThere);
  if (first === undefined || waiting.lacks > 0) return undefined;
  const servers = waiting.servers.slice(0, GROUP_WIDTH_MAX);
  const id = (Math.max(...map.groups.map((group) => group.id)) + 1) as GroupId;
  const version = { version: 1 as GroupVersion, servers, ...shapeOver(servers.length, first.parity), frozen: null };
  const group = { id, name: nameOf(id), parity: first.parity, wanted: servers.map(({ member }) => member), versions: [version] };
  return { ...map, groups: [...map.groups, group] };
}

interface SpareServersOptions {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly self: MemberId;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Makes a group of this server and others that no group has room for, once enough of them are reached. Whichever of them is first does. */
export class SpareServers {
  readonly #options: SpareServersOptions;
  readonly #endListening: () => void;
  #making = false;
  #isStopped = false;
  #timer: Timer | null = null;

  constructor(options: SpareServersOptions) {
    this.#options = options;
    this.#endListening = options.map.onChange(() => this.#look());
    this.#look();
  }

  stop(): void {
    this.#isStopped = true;
    this.#endListening();
    this.#timer?.cancel();
  }

  #look(): void {
    const { map, self } = this.#options;
    const isSpare = spareServers(map.current).some(({ member }) => member === self);
    if (this.#making || !isSpare || waitingServers(map.current, () => true).lacks > 0) return;
    this.#making = true;
    void this.#make();
  }

  async #make(): Promise<void> {
    const { map, clock, logger } = this.#options;
    try {
      const reached = await this.#reached();
      await map.change((now) => withSpareGroup(now, ({ store }) => reached.has(store)));
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      logger("warning", "a group of servers that joined can't be made yet", { reason: error.message });
    }
    if (this.#isStopped) return;
    this.#timer = clock.after(RETRY_MS, () => {
      this.#making = false;
      this.#look();
    });
  }

  async #reached(): Promise<ReadonlySet<StoreId>> {
    const { map, peers } = this.#options;
    const spares = spareServers(map.current);
    const reached = await Promise.all(spares.map(({ member }) => isStoreReached(map, peers, member)));
    return new Set(spares.flatMap(({ store }, index) => (reached[index] ? [store] : [])));
  }
}
