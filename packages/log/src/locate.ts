import { DazzleError, findGroupVersion, findLog, type Group, type GroupId, type MemberId } from "@dazzle/core";
import { allOrEnough } from "./enough.ts";
import { type FragmentReader, failuresOf } from "./fragment-reader.ts";
import { memberName } from "./listing.ts";
import type { LogOptions } from "./options.ts";
import { geometryFrom, placementName, type SegmentGeometry } from "./segment-geometry.ts";

export interface Located {
  /** One for each version that a server told, of each the newest it has something of, those of the group that was named first, of each group the newest first. */
  readonly geometries: readonly SegmentGeometry[];
  /** A server has something of it, though it may be under a version that has left the map. */
  readonly isThere: boolean;
  /** Why servers did not say, or not yet. */
  readonly silent: readonly DazzleError[];
}

/** Asks every server of every version of the log's groups for a segment under any version (rule 3: the placement is a hint); of all groups
 * where the log has left the map. Does not wait for the silent beyond `readHedgeMs`, nor for servers that were slow a moment ago, once as many have it under
 * one version as it takes to read it: fewer may be what is left of a set that was given up.
 *
 * A server tells one version, the newest that it has something of: an older one may be what can be read. `tried` (names of placements): each server is asked for every version but those. */
export async function locateSegment(
  options: LogOptions,
  fragments: FragmentReader,
  segment: { readonly log: number; readonly sequence: number; readonly group: number },
  signal?: AbortSignal,
  tried?: ReadonlySet<string>,
): Promise<Located> {
  const { log, sequence } = segment;
  const { groups } = options.map.current;
  const ofLog = findLog(options.map.current, log)?.groups;
  const found = new Map<string, SegmentGeometry>();
  const holders = new Map<string, number>();
  let isThere = false;
  const silent: DazzleError[] = [];
  const pending = new Map<object, MemberId>();
  const ask = async (group: GroupId, { member, groupVersion }: Question) => {
    const request = { log, sequence, group, groupVersion, index: -1, offset: 0, length: 0 };
    pending.set(request, member);
    try {
      const { reply } = await fragments.ask(member, request, signal);
      isThere = true;
      if (findGroupVersion(options.map.current, group, reply.groupVersion) === undefined) await options.map.refresh();
      const row = findGroupVersion(options.map.current, group, reply.groupVersion);
      if (row === undefined) return;
      const key = placementName({ group, groupVersion: reply.groupVersion });
      found.set(key, geometryFrom(reply, { log, sequence, group }, row));
      holders.set(key, (holders.get(key) ?? 0) + 1);
    } catch (error) {
      for (const failure of failuresOf(error)) if (failure.code !== "fragmentMissing") silent.push(failure);
    } finally {
      pending.delete(request);
    }
  };
  const isReadable = () => [...found].some(([key, { dataFragments }]) => (holders.get(key) ?? 0) >= dataFragments);
  const slow: Promise<void>[] = [];
  const brisk: Promise<void>[] = [];
  for (const group of groups.filter(({ id }) => ofLog?.includes(id) ?? true))
    for (const question of tried === undefined ? anyVersion(group) : otherVersions(group, tried))
      (fragments.isSlow(question.member) ? slow : brisk).push(ask(group.id, question));
  await allOrEnough(options.ports.clock, options.limits.readHedgeMs, [...slow, ...brisk], isReadable, brisk);
  for (const member of new Set(pending.values()))
    silent.push(
      new DazzleError("timedOut", `${memberName(options, member)} has not said yet what it has of log ${log} segment ${sequence}`),
    );
  const isNamed = ({ group }: SegmentGeometry) => Number(group === segment.group);
  const inOrder = (one: SegmentGeometry, other: SegmentGeometry) =>
    isNamed(other) - isNamed(one) || one.group - other.group || other.groupVersion - one.groupVersion;
  return { geometries: [...found.values()].sort(inOrder), isThere, silent };
}

interface Question {
  readonly member: MemberId;
  /** -1: any. */
  readonly groupVersion: number;
}

function anyVersion({ versions }: Group): Question[] {
  const members = new Set(versions.flatMap(({ servers }) => servers.map(({ member }) => member)));
  return [...members].map((member) => ({ member, groupVersion: -1 }));
}

function otherVersions({ id, versions }: Group, tried: ReadonlySet<string>): Question[] {
  const others = versions.filter(({ version }) => !tried.has(placementName({ group: id, groupVersion: version })));
  return others.flatMap(({ version, servers }) => servers.map(({ member }) => ({ member, groupVersion: version })));
}
