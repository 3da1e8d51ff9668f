import {
  type ClusterMap,
  DazzleError,
  findGroup,
  findGroupVersion,
  findLog,
  findMember,
  type GroupServer,
  type ListedFragment,
  type LogRow,
  type MemberId,
} from "@dazzle/core";
import type { LogOptions } from "./options.ts";

const PAGE_SEQUENCES = 1_000;

/** What one server holds of a log. */
export interface ServerListing {
  readonly fragments: readonly ListedFragment[];
  readonly stableSequence: number;
  readonly trimmedTo: number;
  /** What is not listed is not there; else something of it may have rotted beyond recognition. */
  readonly vouched: boolean;
  readonly boot: string;
}

/** All pages of one server's list of a log above a sequence. Rejects `bootChanged` where it restarted between two pages. */
export async function listAbove(options: LogOptions, member: MemberId, log: number, above: number): Promise<ServerListing> {
  const fragments: ListedFragment[] = [];
  let stableSequence = 0;
  let trimmedTo = 0;
  let vouched = true;
  let boot = "";
  for (let after = above; ; ) {
    const { reply } = await options.peers.call(
      member,
      "list",
      { log, after, limit: PAGE_SEQUENCES },
      { deadlineMs: options.limits.serverDeadlineMs },
    );
    if (boot !== "" && reply.boot !== boot)
      throw new DazzleError("bootChanged", `${memberName(options, member)} restarted while it listed log ${log}`);
    boot = reply.boot;
    stableSequence = Math.max(stableSequence, reply.stableSequence);
    trimmedTo = Math.max(trimmedTo, reply.trimmedTo);
    vouched &&= reply.vouched;
    for (const fragment of reply.fragments) fragments.push(fragment);
    const last = reply.fragments.at(-1);
    if (!reply.more || last === undefined) break;
    after = last.sequence;
  }
  return { fragments, stableSequence, trimmedTo, vouched, boot };
}

/** What one server holds of a log above `after`, up to `through`, and no more than `most` sequences: then `more` of it follows what is above `last`. */
export async function listRange(
  options: LogOptions,
  member: MemberId,
  log: number,
  after: number,
  through: number,
  most = Number.MAX_SAFE_INTEGER,
): Promise<{ readonly listing: ServerListing; readonly last: number; readonly more: boolean }> {
  const fragments: ListedFragment[] = [];
  let last = after;
  for (;;) {
    const limit = Math.min(PAGE_SEQUENCES, most);
    const { reply } = await options.peers.call(
      member,
      "list",
      { log, after: last, limit },
      { deadlineMs: options.limits.serverDeadlineMs },
    );
    for (const fragment of reply.fragments) if (fragment.sequence <= through) fragments.push(fragment);
    last = reply.fragments.at(-1)?.sequence ?? last;
    const { stableSequence, trimmedTo, vouched, boot } = reply;
    if (!reply.more || last >= through || limit === most)
      return { listing: { fragments, stableSequence, trimmedTo, vouched, boot }, last, more: reply.more };
  }
}

/** Makes a server adopt the map as it is known here. Rejects `bootChanged` where it serves another store than the group lists: that
 * is a new server, whose silence about a fragment proves nothing (rules 10 and 27). Answers its boot. */
export async function adoptAt(options: LogOptions, server: GroupServer): Promise<string> {
  const map = options.map.current;
  const { reply } = await options.peers.call(server.member, "adopt", { map }, { deadlineMs: options.limits.requestDeadlineMs });
  if (reply.store !== server.store) throw new DazzleError("bootChanged", `${memberName(options, server.member)} serves another store`);
  if (reply.version < map.version) throw new DazzleError("staleMap", `${memberName(options, server.member)} did not adopt the map`);
  return reply.boot;
}

export function memberName(options: LogOptions, member: number): string {
  return options.map.current.members.find((row) => row.id === member)?.name ?? `member ${member}`;
}

/** Every server of every version of the log's groups, once. */
export function serversOf(options: LogOptions, row: LogRow): GroupServer[] {
  const servers = new Map<string, GroupServer>();
  for (const id of row.groups)
    for (const version of findGroup(options.map.current, id).versions)
      for (const server of version.servers) servers.set(`${server.member} ${server.store}`, server);
  return [...servers.values()];
}

/** A sequence of a log, of which fragments are held somewhere. */
export interface HeldSegment {
  readonly sequence: number;
  readonly payloadBytes: number;
  /** A placement that is readable, of those the one of which the least is missing; of equals the newest. */
  readonly group: number;
  readonly groupVersion: number;
  readonly dataFragments: number;
  readonly parityFragments: number;
  /** How many fragments are held under it. At least `dataFragments` make it readable. */
  readonly fragments: number;
}

export interface LogListing {
  /** Ascending; without what lies past the log's decided end. */
  readonly sequences: readonly HeldSegment[];
  readonly trimmedTo: number;
  readonly stableSequence: number;
}

/** What is held of a log above `after`, over all servers of its groups that answer. Rejects `notFound` where the map has no such log,
 * `unreachable` (naming them) where no server answers. */
export async function listLog(options: LogOptions, log: number, after = 0): Promise<LogListing> {
  const row = findLog(options.map.current, log);
  if (row === undefined) throw new DazzleError("notFound", `log ${log} is not in the map`);
  const servers = serversOf(options, row);
  const answers = await Promise.allSettled(servers.map(({ member }) => listAbove(options, member, log, after)));
  const listings = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
  if (listings.length === 0 && servers.length > 0) {
    const names = servers.map(({ member }) => findMember(options.map.current, member).name).join(", ");
    throw new DazzleError("unreachable", `log ${log} can't be listed: no answer from ${names}`);
  }
  return {
    sequences: heldSegments(options.map.current, listings, row.end ?? Number.MAX_SAFE_INTEGER),
    trimmedTo: Math.max(0, ...listings.map(({ trimmedTo }) => trimmedTo)),
    stableSequence: Math.max(0, ...listings.map(({ stableSequence }) => stableSequence)),
  };
}

function heldSegments(map: ClusterMap, listings: readonly ServerListing[], end: number): HeldSegment[] {
  const placements = new Map<string, { fragment: ListedFragment; indices: Set<number> }>();
  for (const { fragments } of listings)
    for (const fragment of fragments) {
      if (fragment.sequence > end) continue;
      const key = `${fragment.sequence} ${fragment.group} ${fragment.groupVersion}`;
      const placement = placements.get(key);
      if (placement === undefined) placements.set(key, { fragment, indices: new Set([fragment.index]) });
      else placement.indices.add(fragment.index);
    }
  const best = new Map<number, HeldSegment>();
  for (const { fragment, indices } of placements.values()) {
    const { sequence, payloadBytes, group, groupVersion, dataFragments } = fragment;
    const { parityFragments } = findGroupVersion(map, group, groupVersion) ?? fragment;
    const held: HeldSegment = { sequence, payloadBytes, group, groupVersion, dataFragments, parityFragments, fragments: indices.size };
    const other = best.get(sequence);
    if (other === undefined || isBetter(held, other)) best.set(sequence, held);
  }
  return [...best.values()].sort((one, other) => one.sequence - other.sequence);
}

function isBetter(held: HeldSegment, other: HeldSegment): boolean {
  const lacks = (row: HeldSegment) => row.dataFragments + row.parityFragments - row.fragments;
  const isReadable = (row: HeldSegment) => row.fragments >= row.dataFragments;
  if (isReadable(held) !== isReadable(other)) return isReadable(held);
  return lacks(held) !== lacks(other) ? lacks(held) < lacks(other) : held.groupVersion > other.groupVersion;
}
