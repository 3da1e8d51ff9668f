import { type DazzleError, findGroupVersion, findLog, type GroupId, type MemberId } from "@dazzle/core";
import { allOrEnough } from "./enough.ts";
import { type FragmentReader, failuresOf } from "./fragment-reader.ts";
import type { LogOptions } from "./options.ts";
import { geometryFrom, type SegmentGeometry } from "./segment-geometry.ts";

export interface Located {
  /** One for each version that a server told, those of the group that was named first, of each group the newest first. */
  readonly geometries: readonly SegmentGeometry[];
  /** Why servers did not say. */
  readonly silent: readonly DazzleError[];
}

/** Asks every server of every version of the log's groups for a segment under any version (PROTOCOL rule 3: the placement is a hint); of all groups
 * where the log has left the map. Does not wait for the silent beyond `readHedgeMs` once somebody has it. */
export async function locateSegment(
  options: LogOptions,
  fragments: FragmentReader,
  segment: { readonly log: number; readonly sequence: number; readonly group: number },
  signal?: AbortSignal,
): Promise<Located> {
  const { log, sequence } = segment;
  const { groups } = options.map.current;
  const ofLog = findLog(options.map.current, log)?.groups;
  const found = new Map<string, SegmentGeometry>();
  const silent: DazzleError[] = [];
  const ask = async (group: GroupId, member: MemberId) => {
    try {
      const request = { log, sequence, group, groupVersion: -1, index: -1, offset: 0, length: 0 };
      const { reply } = await fragments.ask(member, request, signal);
      if (findGroupVersion(options.map.current, group, reply.groupVersion) === undefined) await options.map.refresh();
      const row = findGroupVersion(options.map.current, group, reply.groupVersion);
      if (row !== undefined) found.set(`${group} ${reply.groupVersion}`, geometryFrom(reply, { log, sequence, group }, row.servers));
    } catch (error) {
      for (const failure of failuresOf(error)) if (failure.code !== "fragmentMissing") silent.push(failure);
    }
  };
  const asked = groups
    .filter(({ id }) => ofLog?.includes(id) ?? true)
    .flatMap(({ id, versions }) => {
      const members = new Set(versions.flatMap(({ servers }) => servers.map(({ member }) => member)));
      return [...members].map((member) => ask(id, member));
    });
  await allOrEnough(options.ports.clock, options.limits.readHedgeMs, asked, () => found.size > 0);
  const isNamed = ({ group }: SegmentGeometry) => Number(group === segment.group);
  const inOrder = (one: SegmentGeometry, other: SegmentGeometry) =>
    isNamed(other) - isNamed(one) || one.group - other.group || other.groupVersion - one.groupVersion;
  return { geometries: [...found.values()].sort(inOrder), silent };
}
