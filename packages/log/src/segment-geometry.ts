import { blockChecksumSeed, type GroupServer, type GroupVersionRow, placeOf, type Stripe } from "@dazzle/core";

/** Where a segment's fragments lie, and how to verify them. */
export interface SegmentGeometry extends Stripe {
  readonly log: number;
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  readonly summaryOffset: number;
  /** Of the group version, by place. */
  readonly servers: readonly GroupServer[];
  readonly checksumSeed: number;
}

export function serverOf(geometry: SegmentGeometry, index: number): GroupServer {
  return geometry.servers[placeOf(geometry.sequence, index, geometry.servers.length)] as GroupServer;
}

/** Of a group version. */
export function placementName({ group, groupVersion }: Pick<SegmentGeometry, "group" | "groupVersion">): string {
  return `${group} ${groupVersion}`;
}

export function widthOf(stripe: Stripe): number {
  return stripe.dataFragments + stripe.parityFragments;
}

/** What a `read` reply tells of its segment, but for m: a fragment that was carried over names that of an older version. */
export interface ToldGeometry {
  readonly dataFragments: number;
  readonly fragmentBytes: number;
  readonly payloadBytes: number;
  readonly summaryOffset: number;
}

export function geometryFrom(
  told: ToldGeometry,
  segment: { readonly log: number; readonly sequence: number; readonly group: number },
  { version, servers, parityFragments }: GroupVersionRow,
): SegmentGeometry {
  return {
    log: segment.log,
    sequence: segment.sequence,
    group: segment.group,
    groupVersion: version,
    dataFragments: told.dataFragments,
    parityFragments,
    fragmentBytes: told.fragmentBytes,
    payloadBytes: told.payloadBytes,
    summaryOffset: told.summaryOffset,
    servers,
    checksumSeed: blockChecksumSeed(segment.log, segment.sequence),
  };
}

const GEOMETRIES_MAX = 16_384;
const SEQUENCE_BOUND = 2 ** 32;
const LOG_BOUND = 2 ** 20;

/** The geometries used last. */
export class GeometryCache {
  // INVARIANT: the one used last comes last.
  readonly #geometries = new Map<number | string, SegmentGeometry>();

  get(log: number, sequence: number): SegmentGeometry | undefined {
    const key = keyOf(log, sequence);
    const geometry = this.#geometries.get(key);
    if (geometry === undefined) return undefined;
    this.#geometries.delete(key);
    this.#geometries.set(key, geometry);
    return geometry;
  }

  set(geometry: SegmentGeometry): void {
    const key = keyOf(geometry.log, geometry.sequence);
    this.#geometries.delete(key);
    this.#geometries.set(key, geometry);
    if (this.#geometries.size > GEOMETRIES_MAX) this.#geometries.delete(this.#geometries.keys().next().value as number | string);
  }

  delete(log: number, sequence: number): void {
    this.#geometries.delete(keyOf(log, sequence));
  }
}

function keyOf(log: number, sequence: number): number | string {
  return log < LOG_BOUND && sequence < SEQUENCE_BOUND ? log * SEQUENCE_BOUND + sequence : `${log} ${sequence}`;
}
