import {
  type Clock,
  type ClusterMap,
  currentVersion,
  findMember,
  type Group,
  type GroupId,
  type GroupVersion,
  type GroupVersionRow,
  type Logger,
  type MapCache,
  type MemberId,
  shapeOver,
  type Timer,
  withGroup,
} from "@dazzle/core";
import type { FragmentStore } from "./fragment-store.ts";

const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_MAX_MS = 60_000;

export interface SelfAdmissionOptions {
  readonly store: FragmentStore;
  readonly map: MapCache;
  readonly self: MemberId;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Brings a healthy server back into the groups that want it and were made without it (rule 32): after 1 s, then after twice as long each
 * time it is left out again, 60 s at most. What it holds of superseded or trimmed segments stays until somebody deletes it. */
export class SelfAdmission {
  readonly #options: SelfAdmissionOptions;
  #unsubscribe: (() => void) | null = null;
  #timer: Timer | null = null;
  #backoffMs = BACKOFF_FIRST_MS;
  /** Since when it is in every group that wants it; null while it is left out. */
  #admittedMs: number | null = null;

  constructor(options: SelfAdmissionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#unsubscribe = this.#options.map.onChange(() => this.#look());
    this.#look();
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#unsubscribe = null;
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** The next attempt, if one is due. */
  #look(): void {
    const { map, clock } = this.#options;
    const isLeftOut = map.current.groups.some((group) => this.#isLeftOut(map.current, group));
    if (!isLeftOut) {
      this.#admittedMs ??= clock.nowMs();
      return;
    }
    if (this.#admittedMs !== null && clock.nowMs() - this.#admittedMs >= BACKOFF_MAX_MS) this.#backoffMs = BACKOFF_FIRST_MS;
    this.#admittedMs = null;
    if (this.#timer !== null || this.#unsubscribe === null) return;
    this.#timer = clock.after(this.#backoffMs, () => void this.#attempt());
    this.#backoffMs = Math.min(BACKOFF_MAX_MS, 2 * this.#backoffMs);
  }

  async #attempt(): Promise<void> {
    const { store, map, logger } = this.#options;
    try {
      await map.refresh();
      await store.fence.adopt(map.current);
      // What a server holds counts for its groups from its first listing on: its index must be whole by then.
      await store.listLogs();
      const isStopped = this.#unsubscribe === null;
      if (!isStopped && store.healthy) for (const group of map.current.groups) await this.#admit(group.id);
    } catch (error) {
      logger("warning", "this server was not admitted to its group", { reason: (error as Error).message });
    } finally {
      this.#timer = null;
      this.#look();
    }
  }

  async #admit(id: GroupId): Promise<void> {
    const { map, self, logger } = this.#options;
    let added: GroupVersionRow | undefined;
    await map.change((current) => {
      const group = current.groups.find((row) => row.id === id);
      added = undefined;
      if (group === undefined || !this.#isLeftOut(current, group)) return undefined;
      added = this.#versionWithSelf(group);
      return withGroup(current, { ...group, versions: [...group.versions, added] });
    });
    if (added !== undefined)
      logger("info", `${findMember(map.current, self).name} is in its group`, {
        group: id,
        version: added.version,
        shape: `${added.dataFragments}+${added.parityFragments}`,
      });
  }

  /** Wanted and not in the current version. An empty directory under an old name is another server: `replace-server` alone admits that (rule 27),
   * after which the member's row lists it, and older versions what was there before. */
  #isLeftOut(map: ClusterMap, group: Group): boolean {
    const { self, store } = this.#options;
    if (!group.wanted.includes(self) || currentVersion(group).servers.some(({ member }) => member === self)) return false;
    const listed = map.members.find(({ id }) => id === self)?.store ?? null;
    if (listed !== null) return listed === store.storeId;
    return group.versions.every(({ servers }) => servers.every((row) => row.member !== self || row.store === store.storeId));
  }

  /** It goes before those that it stood before in the widest version it was in: once all are back their places are what they were, and what lies there can be carried over. */
  #versionWithSelf(group: Group): GroupVersionRow {
    const { self, store } = this.#options;
    const current = currentVersion(group);
    let before: readonly MemberId[] = [];
    for (const { servers } of group.versions) {
      const members = servers.map(({ member }) => member);
      if (members.includes(self) && members.length >= before.length) before = members;
    }
    const behind = before.slice(before.indexOf(self) + 1);
    const next = current.servers.findIndex(({ member }) => behind.includes(member));
    const servers = current.servers.toSpliced(next < 0 ? current.servers.length : next, 0, { member: self, store: store.storeId });
    return {
      version: (current.version + 1) as GroupVersion,
      servers,
      ...shapeOver(servers.length, Math.min(group.parity, servers.length - 1), group),
      frozen: null,
    };
  }
}
