import { asBuffer, readSafe, requireBytes, writeSafe } from "../bytes.ts";

/** Blocks of a file that lie together in a segment. `length` is in bytes: only the last block may be short. */
export interface Piece {
  readonly ino: number;
  /** The first block of the file. */
  readonly block: number;
  /** In the segment's payload, bytes. */
  readonly offset: number;
  readonly length: number;
}

/** A piece that was copied to `offset` of a cleaner's segment, and where it was read. */
export interface Move extends Piece {
  readonly fromLog: number;
  readonly fromSequence: number;
  readonly fromOffset: number;
}

/** Moves, or pieces, in one message. */
export const MOVES_MAX = 4_096;

/** Piece, 24 bytes, little-endian: 0 8 index number   8 8 block   16 4 offset   20 4 length */
const PIECE_BYTES = 24;
/** Move, 44 bytes: a piece, then 24 8 from log   32 8 from sequence   40 4 from offset */
const MOVE_BYTES = 44;

function writePiece(piece: Piece, bytes: Buffer, at: number): void {
  writeSafe(bytes, piece.ino, at);
  writeSafe(bytes, piece.block, at + 8);
  bytes.writeUInt32LE(piece.offset, at + 16);
  bytes.writeUInt32LE(piece.length, at + 20);
}

function readPiece(bytes: Buffer, at: number): Piece {
  return {
    ino: readSafe(bytes, at),
    block: readSafe(bytes, at + 8),
    offset: bytes.readUInt32LE(at + 16),
    length: bytes.readUInt32LE(at + 20),
  };
}

export function packPieces(pieces: readonly Piece[]): Buffer {
  const bytes = Buffer.allocUnsafe(PIECE_BYTES * pieces.length);
  pieces.forEach((piece, index) => {
    writePiece(piece, bytes, PIECE_BYTES * index);
  });
  return bytes;
}

/** Throws `corrupt`. */
export function unpackPieces(source: Uint8Array): Piece[] {
  const bytes = asBuffer(source);
  const pieces: Piece[] = [];
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    requireBytes(bytes, at + PIECE_BYTES, "a piece of a file");
    pieces.push(readPiece(bytes, at));
  }
  return pieces;
}

export function packMoves(moves: readonly Move[]): Buffer {
  const bytes = Buffer.allocUnsafe(MOVE_BYTES * moves.length);
  moves.forEach((move, index) => {
    const at = MOVE_BYTES * index;
    writePiece(move, bytes, at);
    writeSafe(bytes, move.fromLog, at + 24);
    writeSafe(bytes, move.fromSequence, at + 32);
    bytes.writeUInt32LE(move.fromOffset, at + 40);
  });
  return bytes;
}

/** Throws `corrupt`. */
export function unpackMoves(source: Uint8Array): Move[] {
  const bytes = asBuffer(source);
  const moves: Move[] = [];
  for (let at = 0; at < bytes.length; at += MOVE_BYTES) {
    requireBytes(bytes, at + MOVE_BYTES, "a move");
    moves.push({
      ...readPiece(bytes, at),
      fromLog: readSafe(bytes, at + 24),
      fromSequence: readSafe(bytes, at + 32),
      fromOffset: bytes.readUInt32LE(at + 40),
    });
  }
  return moves;
}
