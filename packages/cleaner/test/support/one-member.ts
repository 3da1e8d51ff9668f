import {
  type ClusterMap,
  type GroupId,
  type GroupVersion,
  type Handlers,
  LIMITS,
  type ListedFragment,
  type LogId,
  type LogRow,
  MAP_FORMAT,
  MapCache,
  type Member,
  type MemberId,
  Peers,
  SLOTS,
  type StoreId,
} from "@dazzle/core";
import { World } from "@dazzle/sim";
import type { CleanerOptions } from "../../src/options.ts";

export const SELF = 1 as MemberId;
export const GROUP = 1 as GroupId;

export function logRow(id: number, fields: Partial<LogRow> = {}): LogRow {
  return { id: id as LogId, kind: "mount", member: SELF, process: "", state: "live", groups: [GROUP], end: null, label: "", ...fields };
}

/** A segment as one server lists it, whose summary takes nothing. */
export function stored(log: number, sequence: number, payloadBytes: number, bytesSince = 0): ListedFragment {
  return {
    ...{ log, sequence, group: GROUP, groupVersion: 1, index: 0, dataFragments: 1, parityFragments: 0 },
    ...{ payloadBytes, dataBytes: payloadBytes, bytesSince, summaryOffset: payloadBytes },
  };
}

/** A cluster of one member, which plays every role: its handlers are the test's. */
export function oneMember(handlers: Handlers, logs: readonly LogRow[] = []): CleanerOptions & { readonly world: World } {
  const world = new World(1);
  const { ports } = world.spawn("one");
  const store = "00000000000000000000000000000001" as StoreId;
  const member: Member = { id: SELF, name: "one", addresses: ["unix:one"], roles: ["cleaner"], incarnation: 1, store, leaving: false };
  const map: ClusterMap = {
    format: MAP_FORMAT,
    clusterId: "0123456789abcdef0123456789abcdef",
    version: 1,
    nextLog: 10,
    nextMember: 2,
    members: [member],
    groups: [
      {
        ...{ id: GROUP, name: "main", parity: 0, wanted: [SELF] },
        versions: [{ version: 1 as GroupVersion, servers: [{ member: SELF, store }], dataFragments: 2, parityFragments: 0, frozen: null }],
      },
    ],
    slots: Array.from({ length: SLOTS }, () => ({ manager: SELF, term: 1, chain: [] })),
    logs,
    keepers: [SELF],
    formerKeepers: [],
  };
  const held = { map };
  const cache = new MapCache(
    {
      read: async () => held.map,
      compareAndSwap: async (_expected, next) => {
        held.map = next;
      },
    },
    map,
  );
  const { network, clock } = ports;
  return { world, map: cache, peers: new Peers({ network, clock, map: cache, handlers, self: SELF }), ports, limits: LIMITS, self: SELF };
}

/** What a manager that has every slot tells. */
export function liveBytesOf(live: ReadonlyMap<number, number>, trimmedTo: number, after: number, limit: number) {
  const all = [...live].filter(([sequence]) => sequence > after).sort(([one], [other]) => one - other);
  const page = all.slice(0, limit);
  const slots = Array.from({ length: SLOTS }, (_, slot) => slot);
  return {
    ...{ version: 1, trimmedTo, more: all.length > limit, slots, terms: slots.map(() => 1) },
    ...{ sequences: page.map(([sequence]) => sequence), bytes: page.map(([, bytes]) => bytes) },
  };
}
