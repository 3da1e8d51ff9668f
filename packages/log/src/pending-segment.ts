import {
  assert,
  type DazzleError,
  type Deferred,
  deferred,
  encodeFragmentHeader,
  type GroupId,
  type GroupServer,
  type GroupVersionRow,
  placeOf,
  type SegmentClass,
  type Stripe,
  stripeFor,
} from "@dazzle/core";
import { isParity, parityCopy, payloadSlice } from "./payload-cut.ts";
import type { SegmentBuffer } from "./segment-pool.ts";

/** A sealed segment, as its writer's owner sees it. */
export interface SealedSegment {
  readonly sequence: number;
  readonly payloadBytes: number;
  /** Its bytes: to be used before returning to the event loop, and only until it is stable. */
  readonly payload: Buffer;
  /** Resolves when this segment and all before it are stable; rejects where that can never be. */
  readonly stable: Promise<void>;
  /** The placement under which it is, or will be, stable. */
  group: number;
  groupVersion: number;
}

/** `sending`: a store is under way. `waiting`: to be sent again. `refused`: its version was replaced. `accepted`: the
 * server holds it. `durable`: on disk. */
export type FragmentState = "sending" | "waiting" | "refused" | "accepted" | "durable";

/** One fragment of one cut of a segment. */
export interface PendingFragment {
  readonly segment: PendingSegment;
  readonly index: number;
  readonly server: GroupServer;
  /** Header and data. */
  readonly tail: readonly Buffer[];
  /** Whether the data lies in the parity room. */
  readonly inParityRoom: boolean;
  state: FragmentState;
  /** A store of it was not answered in time, and what was sent may be on its way still. */
  isLate: boolean;
  /** Under which boot of the server and with which ticket it was accepted. */
  boot: string;
  ticket: number;
}

export interface CutContext {
  readonly clusterId: string;
  readonly mirrorBytes: number;
  readonly stableSequence: number;
  readonly trimmedTo: number;
}

/** A sealed segment that is not stable: its buffer, and the fragments of the version it is being stored under. The
 * buffer is kept until it is stable and no store that refers to it is under way. */
export class PendingSegment implements SealedSegment {
  readonly log: number;
  readonly sequence: number;
  group: GroupId;
  groupVersion: number;
  readonly payloadBytes: number;
  readonly summaryOffset: number;
  readonly class: SegmentClass;
  readonly urgent: boolean;
  readonly buffer: SegmentBuffer;
  fragments: readonly PendingFragment[] = [];
  /** Whether it went to another group than it was sealed for. */
  moved = false;
  /** Stores under way, of any cut. */
  calls = 0;
  /** Those of them whose data lies in the parity room. */
  parityCalls = 0;
  #isStable = false;
  #released = false;
  readonly #stable: Deferred<void> = deferred();
  #parityFragments = 0;
  #parities: { readonly sliceBytes: number; readonly slices: readonly Buffer[] } | null = null;

  constructor(fields: {
    log: number;
    sequence: number;
    group: GroupId;
    groupVersion: number;
    payloadBytes: number;
    summaryOffset: number;
    class: SegmentClass;
    urgent: boolean;
    buffer: SegmentBuffer;
  }) {
    this.log = fields.log;
    this.sequence = fields.sequence;
    this.group = fields.group;
    this.groupVersion = fields.groupVersion;
    this.payloadBytes = fields.payloadBytes;
    this.summaryOffset = fields.summaryOffset;
    this.class = fields.class;
    this.urgent = fields.urgent;
    this.buffer = fields.buffer;
  }

  get payload(): Buffer {
    return this.buffer.payload.subarray(0, this.payloadBytes);
  }

  get stable(): Promise<void> {
    return this.#stable.promise;
  }

  /** Whether every fragment of the current cut is held by its server. */
  get accepted(): boolean {
    return this.fragments.length > 0 && this.fragments.every(({ state }) => state === "accepted" || state === "durable");
  }

  get durable(): boolean {
    return this.fragments.length > 0 && this.fragments.every(({ state }) => state === "durable");
  }

  /** True once: when it is stable and nothing refers to the buffer any more. */
  release(): boolean {
    if (this.#released || !this.#isStable || this.calls > 0) return false;
    this.#released = true;
    return true;
  }

  becomeStable(): void {
    this.#isStable = true;
    this.#stable.resolve();
  }

  fail(error: DazzleError): void {
    this.#stable.reject(error);
  }

  /** Cuts the payload into fragments for a group version. The payload is the same bytes under every version. */
  cut(row: GroupVersionRow, context: CutContext): readonly PendingFragment[] {
    const stripe = stripeFor(this.payloadBytes, row.dataFragments, row.parityFragments, context.mirrorBytes);
    const width = stripe.dataFragments + stripe.parityFragments;
    assert(width <= row.servers.length, "a stripe is no wider than its group");
    this.groupVersion = row.version;
    this.#parityFragments = stripe.parityFragments;
    this.fragments = Array.from({ length: width }, (_, index) => this.#fragment(row, stripe, index, context));
    return this.fragments;
  }

  /** Forgets the current cut: what is under way of it no longer counts. */
  uncut(): void {
    this.fragments = [];
  }

  /** Whether more of it than parity makes up for is at servers that are out. */
  isLostWithout(isOut: (server: GroupServer) => boolean): boolean {
    return this.fragments.filter(({ server }) => isOut(server)).length > this.#parityFragments;
  }

  /** Whether it is to be written again under its group's current version: something of it was refused, or waits for a server that is not in it any more; or more of it than
   * parity makes up for is on disk at such servers: it would be told stable, and might be nowhere. */
  isReplacedBy(current: GroupVersionRow): boolean {
    if (this.fragments.length === 0 || this.groupVersion === current.version) return false;
    const isListed = ({ server }: PendingFragment) =>
      current.servers.some(({ member, store }) => member === server.member && store === server.store);
    const leftOut = this.fragments.filter((fragment) => !isListed(fragment));
    return (
      leftOut.length > this.#parityFragments ||
      leftOut.some(({ state }) => state !== "durable") ||
      this.fragments.some(({ state }) => state === "refused")
    );
  }

  #fragment(row: GroupVersionRow, stripe: Stripe, index: number, context: CutContext): PendingFragment {
    const inParityRoom = isParity(stripe, index);
    const data = inParityRoom ? this.#parityOf(stripe, index - stripe.dataFragments) : payloadSlice(this.payload, stripe, index);
    const header = encodeFragmentHeader(
      {
        ...stripe,
        log: this.log,
        sequence: this.sequence,
        group: this.group,
        groupVersion: row.version,
        index,
        class: this.class,
        summaryOffset: this.summaryOffset,
        stableSequence: context.stableSequence,
        trimmedTo: context.trimmedTo,
        clusterId: context.clusterId,
      },
      data,
    );
    const server = row.servers[placeOf(this.sequence, index, row.servers.length)] as GroupServer;
    return { segment: this, index, server, tail: [header, data], inParityRoom, state: "waiting", isLate: false, boot: "", ticket: 0 };
  }

  /** A store of an earlier cut may still be sending from the parity room: then another stripe's parity is computed elsewhere. */
  #parityOf({ fragmentBytes: sliceBytes, parityFragments }: Stripe, parity: number): Buffer {
    const known = this.#parities;
    if (known?.sliceBytes !== sliceBytes || known.slices.length < parityFragments) {
      const slices =
        this.parityCalls === 0
          ? this.buffer.parities(sliceBytes, this.payloadBytes, parityFragments)
          : Array.from({ length: parityFragments }, (_, index) => parityCopy(this.payload, sliceBytes, index));
      this.#parities = { sliceBytes, slices };
    }
    return this.#parities?.slices[parity] as Buffer;
  }
}
