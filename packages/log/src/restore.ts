import {
  currentVersion,
  DazzleError,
  encodeFragmentHeader,
  findGroup,
  type GroupServer,
  type GroupVersion,
  isDazzleError,
  joined,
  placeOf,
  SegmentClass,
  stripeFor,
} from "@dazzle/core";
import type { ReadableSet, SegmentToRestore } from "./log-end.ts";
import type { LogOptions } from "./options.ts";
import { fragmentData } from "./payload-cut.ts";
import type { LogReader } from "./reader.ts";
import { widthOf } from "./segment-geometry.ts";

/** Segments that are written again at once. */
export const RESTORES_MAX = 4;

/** A server that did not take what was restored to it. */
export class UnrestoredError extends DazzleError {
  readonly group: number;
  readonly member: number;

  constructor(group: number, member: number, detail: string) {
    super("unreachable", detail);
    this.group = group;
    this.member = member;
  }
}

/** Writes a recoverable segment whole under the current version of its group; durable when it resolves (rule 12). Answers which version that is. */
export async function restoreSegment(
  options: LogOptions & { readonly log: number; readonly reader: LogReader },
  told: { readonly stableSequence: number; readonly trimmedTo: number },
  segment: SegmentToRestore,
): Promise<GroupVersion> {
  const { log, reader, map, limits } = options;
  const { sequence, readable } = segment;
  const best = readable[0] as ReadableSet;
  const { payloadBytes } = best;
  const group = best.version.group;
  const address = { log, sequence, group, groupVersion: best.version.row.version };
  const whole = { ...address, offset: 0, length: payloadBytes };
  const payload = joined(await reader.read(whole));
  const summaryOffset = await reader.summaryOffset(whole);
  const row = currentVersion(findGroup(map.current, group));
  // Where the writer stored some of it under this version, the rest must fit.
  const begun = readable.find(({ version }) => version.group === group && version.row.version === row.version);
  const stripe =
    begun === undefined
      ? stripeFor(payloadBytes, row.dataFragments, row.parityFragments, limits.mirrorBytes)
      : stripeFor(payloadBytes, begun.dataFragments, row.parityFragments, 0);
  await Promise.all(
    Array.from({ length: widthOf(stripe) }, async (_, index) => {
      const data = fragmentData(payload, stripe, index);
      const header = encodeFragmentHeader(
        {
          ...stripe,
          ...address,
          groupVersion: row.version,
          index,
          class: SegmentClass.system,
          summaryOffset,
          stableSequence: told.stableSequence,
          trimmedTo: told.trimmedTo,
          clusterId: map.current.clusterId,
        },
        data,
      );
      await restoreFragment(options, group, row.servers[placeOf(sequence, index, row.servers.length)] as GroupServer, [header, data]);
    }),
  );
  return row.version;
}

/** Stores a fragment under the current version. On disk when it resolves. */
export async function restoreFragment(options: LogOptions, group: number, server: GroupServer, tail: readonly Buffer[]): Promise<void> {
  try {
    await options.peers.call(server.member, "restore", {}, { tail, deadlineMs: options.limits.serverDeadlineMs });
  } catch (error) {
    if (!isDazzleError(error, "unreachable", "timedOut", "wrongStore")) throw error;
    throw new UnrestoredError(group, server.member, error.message);
  }
}
