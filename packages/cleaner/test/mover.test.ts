import {
  BLOCK_BYTES,
  DazzleError,
  type ErrorName,
  type LogAddress,
  type Piece,
  RecordKind,
  type SegmentRecord,
  summaryBytes,
} from "@dazzle/core";
import test from "ava";
import { Mover, runsOf } from "../src/mover.ts";

const BLOCK = BLOCK_BYTES;
const SEGMENT_BYTES = 64 * BLOCK;

function piece(ino: number, block: number, offset: number, blocks = 1): Piece {
  return { ino, block, offset, length: blocks * BLOCK };
}

/** Segments whose every block holds their sequence and its place; the pieces that still live; what is put. */
class Bench {
  readonly stored = new Map<number, readonly Piece[]>();
  readonly dead = new Set<string>();
  readonly failing = new Map<number, ErrorName>();
  readonly gone = new Set<number>();
  readonly put: { sequence: number; piece: Piece; bytes: Buffer }[] = [];
  readonly reads: LogAddress[] = [];
  readonly skippedLines: string[] = [];
  settled = 0;
  payloadBytes = SEGMENT_BYTES;
  always = false;
  readonly mover: Mover;

  constructor() {
    const bench = this;
    this.mover = new Mover({
      group: 1,
      reader: {
        summary: async (_log, sequence) => ({
          records: bench.records(sequence),
          payloadBytes: bench.payloadBytes,
          group: 1,
          groupVersion: 1,
        }),
        read: async (address) => {
          bench.reads.push(address);
          if (bench.gone.has(address.sequence)) throw new DazzleError("fragmentMissing", `segment ${address.sequence}`);
          const code = bench.failing.get(address.sequence);
          if (code !== undefined) throw new DazzleError(code, `segment ${address.sequence}`);
          return [bytesAt(address.sequence, address.offset, address.length)];
        },
      },
      managers: {
        stillAt: async (_log, sequence, pieces) => pieces.filter(({ ino, block }) => !bench.dead.has(`${sequence} ${ino} ${block}`)),
      },
      log: {
        segmentBytes: SEGMENT_BYTES,
        get bytesWritten() {
          return bench.put.reduce((sum, { bytes }) => sum + bytes.length, 0);
        },
        put: async ({ sequence }, moved, bytes) => void bench.put.push({ sequence, piece: moved, bytes: Buffer.from(bytes) }),
        settle: async () => void bench.settled++,
      },
      logger: (_level, message, fields) => void bench.skippedLines.push(`${message} ${fields?.sequence}`),
      signal: new AbortController().signal,
    });
  }

  records(sequence: number): SegmentRecord[] {
    const blocks = (this.stored.get(sequence) ?? []).map((one) => ({
      ...{ kind: RecordKind.block, owner: one.ino, position: one.block * BLOCK, term: 0 },
      ...{ offset: one.offset, length: one.length },
    }));
    return [...blocks, { kind: RecordKind.transaction, owner: 0, position: 0, term: 0, offset: 63 * BLOCK, length: 100 }];
  }

  move(...sequences: number[]) {
    return this.mover.move(sequences.map((sequence) => ({ log: 3, sequence, groupVersion: 1, always: this.always })));
  }
}

function bytesAt(sequence: number, offset: number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, at) => (sequence * 31 + Math.floor((offset + at) / BLOCK)) % 251));
}

test("what still lives is put with the bytes it had, by file, and everything is settled", async (t) => {
  const bench = new Bench();
  bench.stored.set(1, [piece(9, 0, 0, 2), piece(5, 7, 2 * BLOCK), piece(5, 8, 3 * BLOCK)]);
  bench.stored.set(2, [piece(5, 6, 0), piece(9, 2, BLOCK)]);
  bench.dead.add("1 5 8");
  const moved = await bench.move(1, 2);
  t.deepEqual(
    bench.put.map(({ sequence, piece: { ino, block } }) => [sequence, ino, block]),
    [
      [2, 5, 6],
      [1, 5, 7],
      [1, 9, 0],
      [2, 9, 2],
    ],
  );
  for (const { sequence, piece: one, bytes } of bench.put) t.deepEqual(bytes, bytesAt(sequence, one.offset, one.length));
  t.is(bench.settled, 1);
  t.deepEqual(moved, { bytesRead: 5 * BLOCK, bytesWritten: 5 * BLOCK, skipped: [], full: [] });
});

test("nothing is read of a segment in which nothing lives", async (t) => {
  const bench = new Bench();
  bench.stored.set(1, [piece(9, 0, 0)]);
  bench.dead.add("1 9 0");
  await bench.move(1);
  t.deepEqual(bench.reads, []);
  t.deepEqual(bench.put, []);
});

test("a segment in which nothing is dead but gaps is full: it is left as it is, but for one that is moved always", async (t) => {
  const odd = Array.from({ length: SEGMENT_BYTES / BLOCK / 2 }, (_, at) => ({ ...piece(at + 1, 0, 2 * at * BLOCK), length: BLOCK + 100 }));
  for (const always of [false, true]) {
    const bench = new Bench();
    bench.always = always;
    bench.stored.set(1, odd);
    const { full, skipped } = await bench.move(1);
    t.deepEqual(
      full.map(({ sequence }) => sequence),
      always ? [] : [1],
    );
    t.deepEqual([skipped, bench.reads.length > 0, bench.put.length], [[], always, always ? odd.length : 0]);
  }
  const bench = new Bench();
  bench.stored.set(1, odd);
  for (const { ino } of odd.slice(1, 8)) bench.dead.add(`1 ${ino} 0`);
  t.deepEqual((await bench.move(1)).full, []);
});

test("small segments in which all lives are moved together, and one alone is left", async (t) => {
  const bench = new Bench();
  bench.payloadBytes = BLOCK + summaryBytes(1);
  for (const sequence of [1, 2, 3]) bench.stored.set(sequence, [piece(sequence, 0, 0)]);
  t.is((await bench.move(1)).full.length, 1);
  const together = new Bench();
  together.payloadBytes = bench.payloadBytes;
  for (const sequence of [1, 2, 3]) together.stored.set(sequence, [piece(sequence, 0, 0)]);
  t.deepEqual((await together.move(1, 2, 3)).full, []);
  t.is(together.put.length, 3);
});

test("of a segment that is damaged nothing is put, and it is said; the others are cleaned", async (t) => {
  const bench = new Bench();
  bench.stored.set(1, [piece(9, 0, 0)]);
  bench.stored.set(2, [piece(9, 1, 0)]);
  bench.failing.set(1, "segmentLost");
  const { skipped } = await bench.move(1, 2);
  t.deepEqual(skipped, [{ log: 3, sequence: 1, groupVersion: 1, always: false, retry: false }]);
  t.deepEqual(
    bench.put.map(({ sequence }) => sequence),
    [2],
  );
  t.deepEqual(bench.skippedLines, ["a segment is left uncleaned 1"]);
});

test("a segment that can't be read now is told apart from one that is damaged", async (t) => {
  const bench = new Bench();
  const codes: ErrorName[] = ["unreachable", "timedOut", "notReady", "staleMap", "corrupt"];
  for (const [index, code] of codes.entries()) {
    bench.stored.set(index + 1, [piece(9, index, 0)]);
    bench.failing.set(index + 1, code);
  }
  const { skipped } = await bench.move(1, 2, 3, 4, 5);
  t.deepEqual(
    skipped.map(({ retry }) => retry),
    [true, true, true, true, false],
  );
});

test("a segment that was deleted meanwhile is done", async (t) => {
  const bench = new Bench();
  bench.stored.set(1, [piece(9, 0, 0)]);
  bench.gone.add(1);
  const { skipped } = await bench.move(1);
  t.deepEqual([skipped, bench.put, bench.skippedLines], [[], [], []]);
});

test("survivors keep the order of the segments from one target to the next", async (t) => {
  const bench = new Bench();
  for (const sequence of [1, 2, 3, 4]) bench.stored.set(sequence, [piece(10 - sequence, 0, 0, 32)]);
  await bench.move(1, 2, 3, 4);
  t.deepEqual(
    bench.put.map(({ sequence }) => sequence),
    [2, 1, 4, 3],
    "two fill a target, and are sorted by file in it",
  );
});

test("runs are joined over small gaps alone, and no longer than one request", (t) => {
  const far = 17 * BLOCK + 2 * BLOCK;
  t.deepEqual(
    runsOf([piece(1, 1, 2 * BLOCK), piece(1, 0, 0), piece(1, 2, far + BLOCK)]).map(({ offset, length, pieces }) => [
      offset,
      length,
      pieces.length,
    ]),
    [
      [0, 3 * BLOCK, 2],
      [far + BLOCK, BLOCK, 1],
    ],
  );
  const long = Array.from({ length: 300 }, (_, at) => piece(1, at, at * BLOCK));
  t.deepEqual(
    runsOf(long).map(({ length }) => length),
    [1024 * 1024, 300 * BLOCK - 1024 * 1024],
  );
});
