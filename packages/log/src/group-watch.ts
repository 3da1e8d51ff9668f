import { type ClusterMap, currentVersion, dataServers, type Group, type GroupId, isDazzleError, type StoreStatus } from "@dazzle/core";
import { sharesOf } from "./group-choice.ts";
import type { LogOptions } from "./options.ts";

/** How old the servers' word on their room may be. */
const FRESH_MS = 1_000;

/** What a group's servers said when they were last asked. */
interface GroupState {
  /** Of the version that was asked. */
  readonly version: number;
  readonly silent: number;
  /** Bytes of data that each has room for: the least. */
  readonly roomBytes: number;
}

/** What the servers of all groups say of their room. Where the map has one group, nobody is asked. */
export class GroupWatch {
  readonly #options: LogOptions;
  readonly #states = new Map<GroupId, GroupState>();
  /** Since when groups could not be written, and under which version. */
  readonly #failed = new Map<GroupId, { readonly sinceMs: number; readonly version: number; readonly neededBytes: number }>();
  #askedMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | null = null;

  constructor(options: LogOptions) {
    this.#options = options;
  }

  /** Payload bytes that fit a group, as far as is known. */
  roomBytes(group: Group): number | null {
    const state = this.#states.get(group.id);
    const row = currentVersion(group);
    return state === undefined || state.version !== row.version ? null : state.roomBytes * dataServers(row);
  }

  /** Whether a writer that leaves out who is silent can write there, as far as is known. */
  isWritable(group: Group): boolean {
    if (this.#failed.has(group.id)) return false;
    const { version, servers, parityFragments } = currentVersion(group);
    const state = this.#states.get(group.id);
    return state === undefined || state.version !== version || servers.length - state.silent > parityFragments;
  }

  /** A writer could not write there. It does not try before all the servers answer, or the group has another version, and there is room for twice as much. */
  failed(group: Group, neededBytes: number): void {
    this.#failed.set(group.id, { sinceMs: this.#options.ports.clock.nowMs(), version: currentVersion(group).version, neededBytes });
  }

  get anyFailed(): boolean {
    return this.#failed.size > 0;
  }

  /** Asks in the background where what is known is old. */
  keepFresh(): void {
    const isFresh = this.#options.ports.clock.nowMs() - this.#askedMs < FRESH_MS;
    if (!isFresh && this.#asking === null && this.#options.map.current.groups.length > 1) void this.ask();
  }

  /** Resolves when every server has answered, or was silent for `serverSuspectMs`. */
  ask(): Promise<void> {
    this.#askedMs = this.#options.ports.clock.nowMs();
    this.#asking ??= Promise.all(this.#options.map.current.groups.map((group) => this.#ask(group))).then(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #ask(group: Group): Promise<void> {
    const { peers, limits, ports } = this.#options;
    const askedMs = ports.clock.nowMs();
    const row = currentVersion(group);
    const { version, servers } = row;
    const asked = servers.map(async ({ member, store }): Promise<StoreStatus | undefined> => {
      try {
        const { reply } = await peers.call(member, "stat", {}, { deadlineMs: limits.serverSuspectMs });
        return reply.store === store ? reply : undefined;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        return undefined;
      }
    });
    const told = (await Promise.all(asked)).filter((status) => status !== undefined);
    const silent = servers.length - told.length;
    const roomBytes = Math.min(...told.map(({ bytesForData }) => bytesForData));
    this.#states.set(group.id, { version, silent, roomBytes: told.length === 0 ? 0 : roomBytes });
    const failed = this.#failed.get(group.id);
    if (failed === undefined || failed.sinceMs >= askedMs) return;
    const hasRoom = roomBytes * row.dataFragments >= 2 * failed.neededBytes;
    if (hasRoom && (silent === 0 || version > failed.version)) this.#failed.delete(group.id);
  }
}

/** The group in which a new log begins: of those that can be written the one with the most room for each live log that began there. Asks the servers, where there is more
 * than one group. */
export async function firstGroup(options: LogOptions): Promise<GroupId | undefined> {
  const { map } = options;
  if (map.current.groups.length < 2) return map.current.groups[0]?.id;
  const watch = new GroupWatch(options);
  await watch.ask();
  const { groups } = map.current;
  const writable = groups.filter((group) => watch.isWritable(group));
  const able = writable.length > 0 ? writable : groups;
  const loads = able.map((group) => ({
    group: group.id,
    dataFragments: currentVersion(group).dataFragments,
    dataServers: dataServers(currentVersion(group)),
    roomBytes: watch.roomBytes(group),
    answerMs: 0,
    underWay: 0,
    owedBytes: 0,
  }));
  const shares = sharesOf(loads);
  const scores = able.map(({ id }, index) => (shares[index] as number) / (1 + begunIn(map.current, id)));
  return able[scores.indexOf(Math.max(...scores))]?.id;
}

function begunIn({ logs }: ClusterMap, group: GroupId): number {
  return logs.filter(({ state, groups }) => state === "live" && groups[0] === group).length;
}
