import { type GroupServer, type GroupVersionRow, type ListedFragment, placeOf, type StoreId } from "@dazzle/core";
import type { ServerListing } from "./listing.ts";

/** A group version that the log may have written under. */
export interface WrittenVersion {
  readonly group: number;
  readonly row: GroupVersionRow;
  /** The last sequence that can be stable under it: known once it is frozen. */
  readonly lastSequence: number;
}

/** A sequence under one version, of which at least `d` fragments are held. */
export interface ReadableSet {
  readonly version: WrittenVersion;
  readonly dataFragments: number;
  readonly payloadBytes: number;
  /** Every fragment of the stripe is held. */
  readonly complete: boolean;
}

export interface HeldSet extends ReadableSet {
  /** Which of its fragments are held. */
  readonly indices: ReadonlySet<number>;
  /** An adopter lacks one that it should have. */
  readonly lacking: boolean;
}

export interface SequenceVerdict {
  /** Complete ones first, then the newest. */
  readonly readable: readonly HeldSet[];
  /** Proved: never stable under any version, and never to be. */
  readonly beyond: boolean;
  /** Whose silence leaves it open. */
  readonly awaited: readonly GroupServer[];
}

/** What the adopters of a map in which the log is not live hold of it, and what that proves (rule 10). They take no more stores of
 * the log, and list only what is on disk. */
export class LogEvidence {
  readonly versions: readonly WrittenVersion[];
  readonly stableSequence: number;
  readonly trimmedTo: number;
  readonly #adopters: ReadonlySet<StoreId>;
  /** Adopters whose listing may lack what they had: they prove nothing by that, and there is nothing to wait for. */
  readonly #doubted: ReadonlySet<StoreId>;
  /** They never answer again, and refuse whatever is stored: they prove nothing, and are not waited for. */
  readonly #gone: ReadonlySet<StoreId>;
  readonly #held = new Map<number, ListedFragment[]>();

  /** `knownTrimmedTo`: what others than these know. `adopters`: by store, for a member that came back with another one proves nothing about what it had. */
  constructor(
    versions: readonly WrittenVersion[],
    adopters: ReadonlyMap<StoreId, ServerListing>,
    gone: ReadonlySet<StoreId> = new Set(),
    knownTrimmedTo = 0,
  ) {
    this.versions = versions;
    this.#gone = gone;
    this.#adopters = new Set(adopters.keys());
    this.#doubted = new Set([...adopters].flatMap(([store, { vouched }]) => (vouched ? [] : [store])));
    this.trimmedTo = Math.max(knownTrimmedTo, ...[...adopters.values()].map((listing) => listing.trimmedTo));
    this.stableSequence = Math.max(this.trimmedTo, ...[...adopters.values()].map((listing) => listing.stableSequence));
    for (const { fragments } of adopters.values())
      for (const fragment of fragments) {
        const held = this.#held.get(fragment.sequence);
        if (held === undefined) this.#held.set(fragment.sequence, [fragment]);
        else held.push(fragment);
      }
  }

  /** Servers that must still adopt before every stripe that the log could write meets one that refuses; none: it is sealed. */
  get unsealed(): readonly GroupServer[] {
    const awaited = new Set<GroupServer>();
    for (const { row, lastSequence } of this.versions) {
      if (lastSequence !== Number.MAX_SAFE_INTEGER) continue;
      const silent = row.servers.filter((server) => this.#isSilent(server));
      if (silent.length > row.parityFragments) for (const server of silent) awaited.add(server);
    }
    return [...awaited];
  }

  verdict(sequence: number): SequenceVerdict {
    const readable: HeldSet[] = [];
    const awaited = new Set<GroupServer>();
    let beyond = true;
    for (const version of this.versions) {
      if (sequence > version.lastSequence) continue;
      const { set, absent } = this.#underVersion(sequence, version);
      if (set !== undefined) readable.push(set);
      beyond &&= absent;
      // What was stable once is not proved absent by a server that lost it: others may still have it.
      if (absent && sequence > this.stableSequence) continue;
      for (const server of version.row.servers) if (this.#isSilent(server)) awaited.add(server);
    }
    readable.sort((one, other) => Number(other.complete) - Number(one.complete) || other.version.row.version - one.version.row.version);
    return { readable, beyond, awaited: [...awaited] };
  }

  /** Whether the loss of a server explains what nobody has. */
  get hasGone(): boolean {
    return this.versions.some(({ row }) => row.servers.some(({ store }) => this.#gone.has(store)));
  }

  /** Of what is readable from trimmed-to to `end`, by sequence. */
  places(end: number): Map<number, SegmentPlace> {
    const places = new Map<number, SegmentPlace>();
    for (const sequence of this.#held.keys()) {
      if (sequence <= this.trimmedTo || sequence > end) continue;
      const best = this.verdict(sequence).readable[0];
      if (best !== undefined) places.set(sequence, { group: best.version.group, groupVersion: best.version.row.version });
    }
    return places;
  }

  #isSilent({ store }: GroupServer): boolean {
    return !this.#adopters.has(store) && !this.#gone.has(store);
  }

  #underVersion(sequence: number, version: WrittenVersion): { readonly set: HeldSet | undefined; readonly absent: boolean } {
    const { row, group } = version;
    const places = row.servers.length;
    const serverAt = (index: number) => row.servers[placeOf(sequence, index, places)] as GroupServer;
    const indices = new Set<number>();
    let told: ListedFragment | undefined;
    for (const fragment of this.#held.get(sequence) ?? []) {
      if (fragment.group !== group || fragment.groupVersion !== row.version) continue;
      indices.add(fragment.index);
      told = fragment;
    }
    // Every stripe has the fragments 0 … m; what is held tells how many slices more. Its header may name the m of an older version, from which it was carried over.
    const width = row.parityFragments + (told?.dataFragments ?? 1);
    let lacking = false;
    let absent = false;
    for (let index = 0; index < width; index++) {
      const { store } = serverAt(index);
      if (indices.has(index) || !this.#adopters.has(store)) continue;
      lacking = true;
      absent ||= !this.#doubted.has(store);
    }
    if (told === undefined || indices.size < told.dataFragments) return { set: undefined, absent };
    const { dataFragments, payloadBytes } = told;
    return { set: { version, dataFragments, payloadBytes, indices, lacking, complete: indices.size === width }, absent };
  }
}

/** Where a segment is to be read first: a hint (rule 3). */
export interface SegmentPlace {
  readonly group: number;
  readonly groupVersion: number;
}

/** What a recovery does next. */
export type EndPlan =
  | { readonly kind: "decided"; readonly end: number; readonly restores: readonly SegmentToRestore[] }
  | { readonly kind: "awaited"; readonly servers: readonly GroupServer[]; readonly reason: string }
  | { readonly kind: "lost"; readonly sequence: number };

export interface SegmentToRestore {
  readonly sequence: number;
  readonly readable: readonly ReadableSet[];
  /** It was never stable: where it can't be read, the log ends before it. */
  readonly beyond: boolean;
}

/** Walks up from trimmed-to: every sequence that is readable belongs to the log, the first that is proved beyond the end is not in it, and
 * anything else waits. */
export function planEnd(evidence: LogEvidence): EndPlan {
  const restores: SegmentToRestore[] = [];
  if (evidence.unsealed.length > 0) return { kind: "awaited", servers: evidence.unsealed, reason: "the log is not sealed" };
  for (let sequence = evidence.trimmedTo + 1; ; sequence++) {
    const { readable, beyond, awaited } = evidence.verdict(sequence);
    const best = readable[0];
    if (best !== undefined) {
      if (!isRedundant(best, sequence <= evidence.stableSequence))
        restores.push({ sequence, readable, beyond: beyond && sequence > evidence.stableSequence });
      continue;
    }
    if (beyond && sequence > evidence.stableSequence) return { kind: "decided", end: sequence - 1, restores };
    // What its operator has declared lost does not keep the log from ending, nor what has rotted beyond recognition with all who could have it: before that, for it has no holes.
    if (awaited.length === 0 && (evidence.hasGone || sequence > evidence.stableSequence))
      return { kind: "decided", end: sequence - 1, restores };
    if (awaited.length === 0) return { kind: "lost", sequence };
    return { kind: "awaited", servers: awaited, reason: `segment ${sequence} may be stable` };
  }
}

/** All of what was stable is on disk, that of servers which are silent as well: it is written again where those are given up, with whatever else they had. */
function isRedundant({ complete, lacking }: HeldSet, wasStable: boolean): boolean {
  return complete || (wasStable && !lacking);
}
