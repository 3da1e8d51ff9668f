import {
  type ClusterMap,
  DazzleError,
  type GroupId,
  type GroupVersion,
  type GroupVersionRow,
  type LogId,
  type LogRow,
  MAP_FORMAT,
  MapCache,
  type MapStore,
  type MemberId,
  type StoreId,
} from "@dazzle/core";
import { CLUSTER } from "./fragments.ts";

/** The map's register, in memory. */
export class MemoryMapStore implements MapStore {
  map: ClusterMap;

  constructor(map: ClusterMap) {
    this.map = map;
  }

  async read(): Promise<ClusterMap> {
    return this.map;
  }

  async compareAndSwap(expected: number, next: ClusterMap): Promise<void> {
    if (this.map.version !== expected) throw new DazzleError("versionConflict", "the map moved on");
    this.map = next;
  }
}

export const SELF = 1 as MemberId;
export const GROUP = 1 as GroupId;
export const OTHER_STORE = "e".repeat(32) as StoreId;

export function versionRow(version: number, stores: readonly StoreId[], parityFragments = Math.min(1, stores.length - 1)): GroupVersionRow {
  return {
    version: version as GroupVersion,
    servers: stores.map((store, place) => ({ member: (place + 1) as MemberId, store })),
    dataFragments: Math.max(1, stores.length - parityFragments),
    parityFragments,
    frozen: null,
  };
}

export function logRow(id: number, changes: Partial<LogRow> = {}): LogRow {
  return { id: id as LogId, kind: "mount", member: SELF, process: "p", state: "live", groups: [GROUP], end: null, label: "", ...changes };
}

/** A map of one group in which `store` has place 0, and of logs that are live, expelled, ended. */
export function clusterMap(store: StoreId, changes: Partial<ClusterMap> = {}): ClusterMap {
  return {
    format: MAP_FORMAT,
    clusterId: CLUSTER,
    version: 1,
    nextLog: 20,
    nextMember: 3,
    keepers: [],
    formerKeepers: [],
    members: [
      { id: SELF, name: "zebra", addresses: [], roles: ["storage"], incarnation: 1, leaving: false, store },
      { id: 2 as MemberId, name: "okapi", addresses: [], roles: ["storage"], incarnation: 1, leaving: false, store: OTHER_STORE },
    ],
    groups: [{ id: GROUP, name: "g", parity: 1, versions: [versionRow(1, [store, OTHER_STORE])], wanted: [SELF, 2 as MemberId] }],
    slots: [],
    logs: [logRow(1), logRow(2, { state: "expelled" }), logRow(3, { state: "ended", end: 10 }), logRow(4, { groups: [] })],
    ...changes,
  };
}

/** The next version of a map. */
export function next(map: ClusterMap, changes: Partial<ClusterMap>): ClusterMap {
  return { ...map, ...changes, version: map.version + 1 };
}

export function mapCache(map: ClusterMap): { readonly cache: MapCache; readonly register: MemoryMapStore } {
  const register = new MemoryMapStore(map);
  return { cache: new MapCache(register, map), register };
}
