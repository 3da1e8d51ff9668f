import {
  currentVersion,
  encodeFragmentHeader,
  type Group,
  type GroupServer,
  type GroupVersionRow,
  isDazzleError,
  placeOf,
  SegmentClass,
  stripeFor,
} from "@dazzle/core";
import { memberName } from "./listing.ts";
import type { HeldSet } from "./log-end.ts";
import type { LogOptions } from "./options.ts";
import type { LogReader } from "./reader.ts";
import { restoreFragment } from "./restore.ts";
import { widthOf } from "./segment-geometry.ts";

interface CarriedSegment {
  readonly log: number;
  readonly sequence: number;
  readonly readable: readonly HeldSet[];
  readonly stableSequence: number;
  readonly trimmedTo: number;
}

/** How a segment comes under the current version with most of its fragments where they are: that version has their servers at the same places. */
export interface CarryPlan {
  readonly set: HeldSet;
  /** Who holds a fragment that stays. */
  readonly servers: readonly GroupServer[];
  /** What is stored anew. */
  readonly missing: readonly number[];
}

/** Undefined where the segment must be cut anew. More parity is more fragments behind those there are: no other depends on how many there are. */
export function carryPlan({ limits }: LogOptions, group: Group, { sequence, readable }: CarriedSegment): CarryPlan | undefined {
  const current = currentVersion(group);
  const set = readable[0];
  if (set === undefined || set.version.group !== group.id || !isAlike(set.version.row, current)) return undefined;
  const stripe = stripeFor(set.payloadBytes, current.dataFragments, current.parityFragments, limits.mirrorBytes);
  const fits = ({ version, dataFragments }: HeldSet) =>
    version.group !== group.id || version.row.version !== current.version || dataFragments === stripe.dataFragments;
  if (set.dataFragments !== stripe.dataFragments || !readable.every(fits)) return undefined;
  const servers: GroupServer[] = [];
  const missing: number[] = [];
  for (let index = 0; index < widthOf(stripe); index++) {
    const place = placeOf(sequence, index, current.servers.length);
    const server = current.servers[place] as GroupServer;
    if (set.indices.has(index) && set.version.row.servers[place]?.store === server.store) servers.push(server);
    else missing.push(index);
  }
  return servers.length === 0 ? undefined : { set, servers, missing };
}

function isAlike(row: GroupVersionRow, current: GroupVersionRow): boolean {
  return row.servers.length === current.servers.length && row.parityFragments <= current.parityFragments;
}

/** Has the servers take over what stays, of many segments at once. Answers those of which every such fragment is under the current version now, on disk. */
export async function carryOver<Segment extends CarriedSegment>(
  options: LogOptions,
  group: Group,
  plans: ReadonlyMap<Segment, CarryPlan>,
): Promise<ReadonlySet<Segment>> {
  const to = currentVersion(group).version;
  const carried = new Set(plans.keys());
  const requests = new Map<string, { readonly server: GroupServer; readonly from: number; readonly segments: Segment[] }>();
  for (const [segment, { set, servers }] of plans) {
    const from = set.version.row.version;
    if (from === to) continue;
    for (const server of servers) {
      const key = `${server.member} ${from} ${segment.log}`;
      const request = requests.get(key);
      if (request === undefined) requests.set(key, { server, from, segments: [segment] });
      else request.segments.push(segment);
    }
  }
  const { peers, limits, ports } = options;
  const asked = [...requests.values()].map(async ({ server: { member }, from, segments }) => {
    const [{ log }] = segments as [Segment];
    const sequences = segments.map(({ sequence }) => sequence);
    const stableSequence = Math.max(...segments.map((segment) => segment.stableSequence));
    const trimmedTo = Math.max(...segments.map((segment) => segment.trimmedTo));
    const request = { log, sequences, group: group.id, from, to, stableSequence, trimmedTo };
    let held = new Set<number>();
    try {
      held = new Set((await peers.call(member, "carry", request, { deadlineMs: limits.requestDeadlineMs })).reply.carried);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      ports.logger("info", "fragments can't be carried over: they are written again", {
        log,
        server: memberName(options, member),
        reason: error.message,
      });
    }
    for (const segment of segments) if (!held.has(segment.sequence)) carried.delete(segment);
  });
  await Promise.all(asked);
  return carried;
}

/** Stores the other fragments of a segment of which those that stay were carried over: it is whole then, and on disk. */
export async function restoreMissing(
  options: LogOptions & { readonly reader: LogReader },
  group: Group,
  { log, sequence, stableSequence, trimmedTo }: CarriedSegment,
  { set, missing }: CarryPlan,
): Promise<void> {
  const row = currentVersion(group);
  const { servers, version } = set.version.row;
  const indices = [...set.indices];
  // Its own fragment tells the geometry without a message.
  const own = indices.find((index) => servers[placeOf(sequence, index, servers.length)]?.member === options.peers.self);
  const segment = { log, sequence, group: group.id, groupVersion: version, known: own ?? (indices[0] as number) };
  await Promise.all(
    missing.map(async (index) => {
      const { stripe, summaryOffset, data } = await options.reader.fragment(segment, index, set.indices.has(index));
      const { clusterId } = options.map.current;
      const key = { log, sequence, group: group.id, groupVersion: row.version, index };
      const marks = { summaryOffset, stableSequence, trimmedTo, clusterId, class: SegmentClass.system };
      const header = encodeFragmentHeader({ ...stripe, ...key, ...marks, parityFragments: row.parityFragments }, data);
      const server = row.servers[placeOf(sequence, index, row.servers.length)] as GroupServer;
      await restoreFragment(options, group.id, server, [header, data]);
    }),
  );
}
