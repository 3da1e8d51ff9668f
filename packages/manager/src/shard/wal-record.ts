import { ALL_SLOTS, DazzleError, readSafe, type SlotMask, writeSafe } from "@dazzle/core";
import { type AmendedEntry, amendmentBytes, decodeAmendment, encodeAmendment } from "./amendment.ts";

/** What the body of an `applied` record says. Numbers on disk; never reused. */
export const WalKind = { section: 1, numbers: 2, holds: 3, moves: 4, amended: 5 } as const;

/** Where a transaction lies, for the addresses of the extents it names. */
export interface TransactionOrigin {
  readonly log: number;
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  /** The slots that the transaction concerns, here and elsewhere: nobody else can have live bytes of its segment. */
  readonly slots: SlotMask;
}

/** The body of an `applied` record in a manager's log, little-endian; the summary's row has the slot, the term and, as
 * position, the log it is about.
 *   0 1 kind   1 7 zero   then, by kind,
 *   section   8 8 sequence  16 4 group  20 4 group version  24 4 slots 0 … 31  28 4 slots 32 … 63  32 the section, as it was shipped
 *   numbers   8 8 index numbers of the slot below this one may have been given out
 *   holds     nothing: the log of the position may hold tokens of the slot
 *   moves     8 8 sequence  16 4 group  20 4 group version  24 the moves into that segment of the log of the position, as they were asked for
 *   amended   8 entries of the slot's imap as a repair has them (see amendment.ts) */
export const WAL = { kind: 0, sequence: 8, group: 16, groupVersion: 20, slotsLow: 24, slotsHigh: 28, section: 32, moves: 24 } as const;
export const WAL_NUMBERS_BYTES = 16;
export const WAL_HOLDS_BYTES = 8;

export type WalBody =
  | { readonly kind: "section"; readonly origin: Omit<TransactionOrigin, "log">; readonly section: Buffer }
  | { readonly kind: "numbers"; readonly limit: number }
  | { readonly kind: "holds" }
  | { readonly kind: "amended"; readonly entries: readonly AmendedEntry[] }
  | { readonly kind: "moves"; readonly origin: Omit<TransactionOrigin, "log">; readonly moves: Buffer };

/** Writes the body at the start of `target`; answers where the next one starts. */
export function encodeWalSection(origin: TransactionOrigin, section: Uint8Array, target: Buffer): number {
  target.fill(0, 0, WAL.section);
  target.writeUInt8(WalKind.section, WAL.kind);
  writeSafe(target, origin.sequence, WAL.sequence);
  target.writeUInt32LE(origin.group, WAL.group);
  target.writeUInt32LE(origin.groupVersion, WAL.groupVersion);
  target.writeUInt32LE(origin.slots.low, WAL.slotsLow);
  target.writeUInt32LE(origin.slots.high, WAL.slotsHigh);
  target.set(section, WAL.section);
  return WAL.section + section.byteLength;
}

export function encodeWalNumbers(limit: number, target: Buffer): number {
  target.fill(0, 0, WAL_NUMBERS_BYTES);
  target.writeUInt8(WalKind.numbers, WAL.kind);
  writeSafe(target, limit, WAL.sequence);
  return WAL_NUMBERS_BYTES;
}

export function encodeWalHolds(target: Buffer): number {
  target.fill(0, 0, WAL_HOLDS_BYTES);
  target.writeUInt8(WalKind.holds, WAL.kind);
  return WAL_HOLDS_BYTES;
}

export function walAmendedBytes(entries: readonly AmendedEntry[]): number {
  return WAL_HOLDS_BYTES + amendmentBytes(entries);
}

export function encodeWalAmended(entries: readonly AmendedEntry[], target: Buffer): number {
  target.fill(0, 0, WAL_HOLDS_BYTES);
  target.writeUInt8(WalKind.amended, WAL.kind);
  return WAL_HOLDS_BYTES + encodeAmendment(entries, target.subarray(WAL_HOLDS_BYTES));
}

export function encodeWalMoves(
  { sequence, group, groupVersion }: Omit<TransactionOrigin, "slots">,
  moves: Uint8Array,
  target: Buffer,
): number {
  target.fill(0, 0, WAL.moves);
  target.writeUInt8(WalKind.moves, WAL.kind);
  writeSafe(target, sequence, WAL.sequence);
  target.writeUInt32LE(group, WAL.group);
  target.writeUInt32LE(groupVersion, WAL.groupVersion);
  target.set(moves, WAL.moves);
  return WAL.moves + moves.byteLength;
}

/** Throws `corrupt`. Sections and moves alias `bytes`. */
export function decodeWalBody(bytes: Buffer): WalBody {
  const kind = bytes.length >= WAL_HOLDS_BYTES ? bytes.readUInt8(WAL.kind) : 0;
  switch (kind) {
    case WalKind.section:
      if (bytes.length < WAL.section) break;
      return {
        kind: "section",
        origin: {
          sequence: readSafe(bytes, WAL.sequence),
          group: bytes.readUInt32LE(WAL.group),
          groupVersion: bytes.readUInt32LE(WAL.groupVersion),
          slots: { low: bytes.readUInt32LE(WAL.slotsLow), high: bytes.readUInt32LE(WAL.slotsHigh) },
        },
        section: bytes.subarray(WAL.section),
      };
    case WalKind.numbers:
      if (bytes.length < WAL_NUMBERS_BYTES) break;
      return { kind: "numbers", limit: readSafe(bytes, WAL.sequence) };
    case WalKind.holds:
      return { kind: "holds" };
    case WalKind.amended:
      return { kind: "amended", entries: decodeAmendment(bytes.subarray(WAL_HOLDS_BYTES)) };
    case WalKind.moves:
      if (bytes.length < WAL.moves) break;
      return {
        kind: "moves",
        origin: {
          sequence: readSafe(bytes, WAL.sequence),
          group: bytes.readUInt32LE(WAL.group),
          groupVersion: bytes.readUInt32LE(WAL.groupVersion),
          slots: ALL_SLOTS,
        },
        moves: bytes.subarray(WAL.moves),
      };
  }
  throw new DazzleError("corrupt", `a record of a manager's log of ${bytes.length} bytes and the kind ${kind}`);
}
