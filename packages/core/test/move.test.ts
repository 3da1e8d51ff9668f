import { type Move, packMoves, packPieces, unpackMoves, unpackPieces } from "@dazzle/core";
import test from "ava";
import { goldenBytes } from "./support/golden.ts";
import { throwsRow } from "./support/throws.ts";

const MOVES: readonly Move[] = [
  {
    ino: 2 ** 40 + 3,
    block: 2 ** 41 + 1,
    offset: 0x01020304,
    length: 4096,
    fromLog: 2 ** 42 + 7,
    fromSequence: 2 ** 43 + 9,
    fromOffset: 8192,
  },
  { ino: 66, block: 0, offset: 0, length: 1, fromLog: 1, fromSequence: 1, fromOffset: 0xffff_f000 },
];

test("moves and pieces are the bytes of their golden files", (t) => {
  const moves = goldenBytes("moves", () => packMoves(MOVES));
  t.deepEqual(packMoves(MOVES), moves);
  t.deepEqual(unpackMoves(moves), MOVES);
  const wanted = MOVES.map(({ ino, block, offset, length }) => ({ ino, block, offset, length }));
  const pieces = goldenBytes("pieces", () => packPieces(MOVES));
  t.deepEqual(packPieces(wanted), pieces);
  t.deepEqual(unpackPieces(pieces), wanted);
});

test("moves and pieces that are cut off are corrupt", (t) => {
  for (let length = 1; length < 44; length++) throwsRow(t, "corrupt", () => unpackMoves(packMoves(MOVES).subarray(0, length)));
  for (let length = 1; length < 24; length++) throwsRow(t, "corrupt", () => unpackPieces(packPieces(MOVES).subarray(0, length)));
});
