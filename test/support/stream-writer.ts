import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";

/** stream-writer.ts write FILE MIB [MIB_PER_SECOND]: writes, then fsyncs and closes; a line "at N" goes to standard output after every 16 MiB.
 *  stream-writer.ts read FILE: reads it all.
 *  Both end with one line of JSON, a `StreamReport`. */
export interface StreamReport {
  readonly sha256: string;
  readonly bytes: number;
  /** The longest that one write, fsync, close or read took. */
  readonly longestPauseMs: number;
  /** Where it began, since the start. */
  readonly longestPauseAtMs: number;
  readonly elapsedMs: number;
  /** What the application was told, with when. */
  readonly error: string | null;
}

const MIB = 1024 * 1024;

class Stopwatch {
  readonly #started = performance.now();
  longestPauseMs = 0;
  longestPauseAtMs = 0;

  get elapsedMs(): number {
    return performance.now() - this.#started;
  }

  time<T>(call: () => T): T {
    const before = this.elapsedMs;
    try {
      return call();
    } finally {
      const tookMs = this.elapsedMs - before;
      if (tookMs > this.longestPauseMs) {
        this.longestPauseMs = tookMs;
        this.longestPauseAtMs = before;
      }
    }
  }
}

function write(path: string, count: number, mibPerSecond: number): StreamReport {
  const watch = new Stopwatch();
  const hash = createHash("sha256");
  let error: string | null = null;
  let bytes = 0;
  try {
    const file = openSync(path, "w");
    for (let index = 0; index < count; index++) {
      const content = contentOf(index);
      hash.update(content);
      for (let done = 0; done < MIB; ) done += watch.time(() => writeSync(file, content, done));
      bytes += MIB;
      if (index % 16 === 15) process.stdout.write(`at ${index + 1}\n`);
      const waitMs = ((index + 1) / mibPerSecond) * 1_000 - watch.elapsedMs;
      if (waitMs > 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, waitMs);
    }
    watch.time(() => fsyncSync(file));
    watch.time(() => closeSync(file));
  } catch (failure) {
    error = `${String(failure)} after ${Math.round(watch.elapsedMs)} ms`;
  }
  return reportOf(watch, hash.digest("hex"), bytes, error);
}

/** Different in every 4 KiB, and never zeros. */
function contentOf(index: number): Buffer {
  const content = Buffer.alloc(MIB, `stream MiB ${index} `);
  for (let block = 0; block < 256; block++) content.write(`block ${block};`, block * 4096, "latin1");
  return content;
}

function read(path: string): StreamReport {
  const watch = new Stopwatch();
  const hash = createHash("sha256");
  const buffer = Buffer.alloc(MIB);
  let error: string | null = null;
  let bytes = 0;
  try {
    const file = openSync(path, "r");
    for (;;) {
      const length = watch.time(() => readSync(file, buffer));
      if (length === 0) break;
      bytes += length;
      hash.update(buffer.subarray(0, length));
    }
    closeSync(file);
  } catch (failure) {
    error = `${String(failure)} after ${Math.round(watch.elapsedMs)} ms`;
  }
  return reportOf(watch, hash.digest("hex"), bytes, error);
}

function reportOf(watch: Stopwatch, sha256: string, bytes: number, error: string | null): StreamReport {
  const { longestPauseMs, longestPauseAtMs, elapsedMs } = watch;
  return {
    sha256,
    bytes,
    longestPauseMs: Math.round(longestPauseMs),
    longestPauseAtMs: Math.round(longestPauseAtMs),
    elapsedMs: Math.round(elapsedMs),
    error,
  };
}

if (process.argv[1] === import.meta.filename) {
  const [verb, path = "", mib = "0", rate = "Infinity"] = process.argv.slice(2);
  const report = verb === "write" ? write(path, Number(mib), Number(rate)) : read(path);
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
