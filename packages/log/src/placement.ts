import { currentVersion, dataServers, findGroup, findLog, type Group, type GroupId, isDazzleError, withLog } from "@dazzle/core";
import { chooseGroup, type GroupLoad, sharesOf } from "./group-choice.ts";
import { GroupWatch } from "./group-watch.ts";
import type { LogOptions } from "./options.ts";

/** What a group has shown to a writer. */
export interface GroupTraffic {
  readonly answerMs: number;
  readonly underWay: number;
}

/** Bounds what a group may be owed, in segments: one that was away is not flooded when it is back. */
const OWED_SEGMENTS_MAX = 16;

/** In which group each segment of a log is written. */
export class Placement {
  readonly #options: LogOptions & { readonly log: number; readonly spreads: boolean };
  readonly #traffic: (group: GroupId) => GroupTraffic;
  readonly #watch: GroupWatch;
  readonly #owedBytes = new Map<GroupId, number>();
  #present: GroupId;
  #registering = false;

  constructor(
    options: LogOptions & { readonly log: number; readonly spreads: boolean },
    group: GroupId,
    traffic: (group: GroupId) => GroupTraffic,
  ) {
    this.#options = options;
    this.#present = group;
    this.#traffic = traffic;
    this.#watch = new GroupWatch(options);
    this.#watch.keepFresh();
  }

  /** The group of the next segment. */
  next(): GroupId {
    this.#watch.keepFresh();
    this.#present = this.#choose(this.#writable()) ?? this.#present;
    return this.#present;
  }

  /** A segment was sealed for a group. */
  sealed(group: GroupId, bytes: number): void {
    const loads = this.#loads(this.#writable());
    if (loads.length < 2) return;
    const shares = sharesOf(loads);
    const most = OWED_SEGMENTS_MAX * this.#segmentBytes(loads);
    for (const [index, load] of loads.entries()) {
      const owed = load.owedBytes + bytes * (shares[index] as number) - (load.group === group ? bytes : 0);
      this.#owedBytes.set(load.group as GroupId, Math.max(-most, Math.min(most, owed)));
    }
  }

  /** A group can't be written now, or had no room for so many bytes. */
  failed(group: GroupId, neededBytes: number): void {
    this.#watch.failed(findGroup(this.#options.map.current, group), neededBytes);
    this.#owedBytes.delete(group);
  }

  /** Where to write what `group` does not take; undefined where it does, or no other can be written. */
  insteadOf(group: GroupId): GroupId | undefined {
    if (!this.#watch.anyFailed) return undefined;
    this.#watch.keepFresh();
    if (this.#watch.isWritable(findGroup(this.#options.map.current, group))) return undefined;
    return this.#choose(this.#writable().filter(({ id }) => id !== group));
  }

  #writable(): readonly Group[] {
    return this.#options.map.current.groups.filter((group) => this.#watch.isWritable(group));
  }

  /** Among those that are registered. Has the best one registered where it is not. */
  #choose(groups: readonly Group[]): GroupId | undefined {
    const { spreads, map, log } = this.#options;
    const isPresent = ({ id }: Group) => id === this.#present;
    if (!spreads && groups.some(isPresent)) return this.#present;
    const best = this.#best(groups);
    const registered = findLog(map.current, log)?.groups ?? [];
    if (best === undefined || registered.includes(best)) return best;
    this.#register(best);
    return this.#best(groups.filter(({ id }) => registered.includes(id)));
  }

  #best(groups: readonly Group[]): GroupId | undefined {
    const loads = this.#loads(groups);
    const limits = { segmentBytes: this.#segmentBytes(loads), underWayMax: Math.ceil(this.#options.limits.segmentsInFlight / 2) };
    return chooseGroup(loads, this.#present, limits) as GroupId | undefined;
  }

  #segmentBytes(loads: readonly GroupLoad[]): number {
    return Math.max(...loads.map(({ dataFragments }) => dataFragments)) * this.#options.limits.fragmentBytes;
  }

  #loads(groups: readonly Group[]): GroupLoad[] {
    return groups.map((group) => ({
      group: group.id,
      dataFragments: currentVersion(group).dataFragments,
      dataServers: dataServers(currentVersion(group)),
      roomBytes: this.#watch.roomBytes(group),
      owedBytes: this.#owedBytes.get(group.id) ?? 0,
      ...this.#traffic(group.id),
    }));
  }

  /** A log is in the map with a group before its first store there (rule 9). */
  #register(group: GroupId): void {
    if (this.#registering) return;
    this.#registering = true;
    const { map, log, ports } = this.#options;
    const change = map.change((now) => {
      const row = findLog(now, log);
      return row?.state !== "live" || row.groups.includes(group) ? undefined : withLog(now, log, { groups: [...row.groups, group] });
    });
    change
      .catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "a log is not registered with another group yet", { log, group, reason: error.message });
      })
      .finally(() => {
        this.#registering = false;
      });
  }
}
