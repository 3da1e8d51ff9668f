import { type DazzleError, findGroup, findGroupVersion, type GroupId, type MemberId } from "@dazzle/core";
import { allOrEnough } from "./enough.ts";
import { type FragmentReader, failuresOf } from "./fragment-reader.ts";
import type { LogOptions } from "./options.ts";
import { geometryFrom, type SegmentGeometry } from "./segment-geometry.ts";

export interface Located {
  /** One for each version that a server told, the newest first. */
  readonly geometries: readonly SegmentGeometry[];
  /** Why servers did not say. */
  readonly silent: readonly DazzleError[];
}

/** Asks every server of every version of the group for a segment under any version (PROTOCOL rule 3: the placement is a hint). Does not
 * wait for the silent beyond `readHedgeMs` once somebody has it. */
export async function locateSegment(
  options: LogOptions,
  fragments: FragmentReader,
  segment: { readonly log: number; readonly sequence: number; readonly group: number },
  signal?: AbortSignal,
): Promise<Located> {
  const { log, sequence, group } = segment;
  const members = new Set<MemberId>();
  for (const version of findGroup(options.map.current, group as GroupId).versions)
    for (const { member } of version.servers) members.add(member);
  const found = new Map<number, SegmentGeometry>();
  const silent: DazzleError[] = [];
  const request = { log, sequence, group, groupVersion: -1, index: -1, offset: 0, length: 0 };
  const ask = async (member: MemberId) => {
    try {
      const { reply } = await fragments.ask(member, request, signal);
      if (findGroupVersion(options.map.current, group, reply.groupVersion) === undefined) await options.map.refresh();
      const row = findGroupVersion(options.map.current, group, reply.groupVersion);
      if (row !== undefined) found.set(reply.groupVersion, geometryFrom(reply, segment, row.servers));
    } catch (error) {
      for (const failure of failuresOf(error)) if (failure.code !== "fragmentMissing") silent.push(failure);
    }
  };
  await allOrEnough(options.ports.clock, options.limits.readHedgeMs, [...members].map(ask), () => found.size > 0);
  return { geometries: [...found.values()].sort((one, other) => other.groupVersion - one.groupVersion), silent };
}
