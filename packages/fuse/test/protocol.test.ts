import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { rm } from "node:fs/promises";
import { type Caller, DazzleError } from "@dazzle/core";
import test from "ava";
import { Chunk } from "../src/chunk-pool.ts";
import { Dispatcher } from "../src/dispatcher.ts";
import type { Engine } from "../src/engine.ts";
import { clockBoottimeMs, preadNowait, punchHole, shutdownFilesystem } from "../src/index.ts";
import { parseMountTable } from "../src/mount-table.ts";
import { Opcode } from "../src/protocol.ts";
import { ReplyBuffer } from "../src/reply.ts";
import { MemoryFileSystem } from "./support/memory-file-system.ts";
import { temporaryDirectory } from "./support/mounted.ts";

/** A device of which the test is the kernel. */
class FakeEngine implements Engine {
  readonly kind = "addon";
  readonly replies: Buffer[] = [];
  readonly reply = new ReplyBuffer();
  held = 0;
  paused = false;
  start(): void {}
  send(length: number): number {
    this.replies.push(Buffer.from(this.reply.bytes.subarray(0, length)));
    return 0;
  }
  sendPieces(length: number, pieces: readonly Uint8Array[]): number {
    this.replies.push(Buffer.concat([this.reply.bytes.subarray(0, length), ...pieces]));
    return 0;
  }
  notify(): Promise<number> {
    return Promise.resolve(0);
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  hold(): void {
    this.held += 1;
  }
  release(): void {
    this.held -= 1;
  }
  close(): void {}
}

class Kernel {
  readonly engine = new FakeEngine();
  readonly log: string[] = [];
  readonly dispatcher: Dispatcher;
  readonly #chunk = new Chunk(0);
  result: unknown;

  constructor(fileSystem: MemoryFileSystem, minor = 45) {
    this.dispatcher = new Dispatcher(fileSystem, this.engine, this.engine.reply, {
      inFlightMax: 2,
      log: (line) => this.log.push(line),
      negotiated: (result) => {
        this.result = result;
      },
      ended: () => {},
    });
    this.ask(Opcode.init, 2n, 0, words(7, minor, 131072, 0xffffffff, 0xffffffff));
  }

  ask(opcode: number, unique: bigint, ino: number, body: Buffer): Buffer | undefined {
    const { buffer } = this.#chunk;
    const length = 40 + body.length;
    buffer.writeUInt32LE(length, 0);
    buffer.writeUInt32LE(opcode, 4);
    buffer.writeBigUInt64LE(unique, 8);
    buffer.writeBigUInt64LE(BigInt(ino), 16);
    buffer.fill(0, 24, 40);
    body.copy(buffer, 40);
    const before = this.engine.replies.length;
    this.dispatcher.receive(this.#chunk, 0, length);
    this.dispatcher.batchEnd();
    return this.engine.replies[before];
  }
}

test("the negotiation answers as the kernel expects, and refuses what is too old", (t) => {
  const kernel = new Kernel(new MemoryFileSystem());
  const reply = kernel.engine.replies[0] ?? Buffer.alloc(0);
  t.is(reply.length, 16 + 64);
  t.deepEqual([reply.readUInt32LE(16), reply.readUInt32LE(20), reply.readUInt32LE(36), reply.readUInt16LE(44)], [7, 44, 1 << 20, 256]);
  const flags = reply.readUInt32LE(28);
  t.is(flags & (1 << 16), 0, "no WRITEBACK_CACHE");
  t.is(flags & (1 << 12), 0, "no AUTO_INVAL_DATA");
  t.is(flags & (1 << 20), 0, "no POSIX_ACL");
  t.not(flags & (1 << 25), 0, "EXPLICIT_INVAL_DATA");
  const old = new Kernel(new MemoryFileSystem(), 30);
  t.is(old.engine.replies[0]?.readInt32LE(4), -71);
  t.regex(String(old.result), /FUSE 7\.30/);
});

test("times are split exactly, near whole seconds, before 1970 and after 2038", (t) => {
  const fileSystem = new MemoryFileSystem();
  const kernel = new Kernel(fileSystem);
  const second = 1_000_000_000n;
  for (const seconds of [0n, 1n, 981_173_106n, 1_795_000_000n, 4_294_967_296n, 8_589_934_591n, -1n, -2_147_483_649n]) {
    for (const nanoseconds of [0n, 1n, 63n, 500_000_000n, 999_999_936n, 999_999_999n]) {
      fileSystem.node(1).mtimeNs = seconds * second + nanoseconds;
      const reply = kernel.ask(Opcode.getAttributes, 4n, 1, Buffer.alloc(16)) ?? Buffer.alloc(0);
      t.deepEqual([reply.readBigInt64LE(16 + 16 + 32), BigInt(reply.readUInt32LE(16 + 16 + 52))], [seconds, nanoseconds]);
    }
  }
});

test("the answer repeats the whole of the request's number", (t) => {
  const kernel = new Kernel(new MemoryFileSystem());
  const unique = 0xfedc_ba98_7654_3210n;
  t.is(kernel.ask(Opcode.statistics, unique, 1, Buffer.alloc(0))?.readBigUInt64LE(8), unique);
});

test("what has no row is answered ENOSYS, an ioctl ENOTTY, a forget not at all", (t) => {
  const kernel = new Kernel(new MemoryFileSystem());
  for (const opcode of [
    Opcode.access,
    Opcode.blockMap,
    Opcode.poll,
    Opcode.copyFileRange,
    Opcode.syncFileSystem,
    Opcode.temporaryFile,
    63,
    4096,
  ]) {
    t.is(kernel.ask(opcode, 4n, 1, Buffer.alloc(64))?.readInt32LE(4), -38);
  }
  t.is(kernel.ask(Opcode.ioctl, 4n, 1, Buffer.alloc(64))?.readInt32LE(4), -25);
  t.is(kernel.ask(Opcode.interrupt, 5n, 0, words(99, 0)), undefined, "of a request that is finished");
});

test("entries that don't fit give their references back, and come with the next call", async (t) => {
  const fileSystem = new MemoryFileSystem();
  const kernel = new Kernel(fileSystem);
  for (let index = 0; index < 100; index++) await fileSystem.create(ROOT, 1, `${index}`.padEnd(200, "-"), 0o644, 0);
  const handle = Number(kernel.ask(Opcode.openDirectory, 4n, 1, Buffer.alloc(8))?.readBigUInt64LE(16));
  const names: string[] = [];
  let cookie = 0;
  for (;;) {
    const reply = kernel.ask(Opcode.readDirectoryPlus, 6n, 1, words(handle, 0, cookie, 0, 4096, 0, 0, 0, 0, 0)) ?? Buffer.alloc(0);
    t.true(reply.length <= 16 + 4096);
    if (reply.length <= 16) break;
    for (let at = 16; at < reply.length; ) {
      const nameBytes = reply.readUInt32LE(at + 128 + 16);
      names.push(reply.toString("latin1", at + 152, at + 152 + nameBytes));
      cookie = reply.readUInt32LE(at + 128 + 8);
      at += (152 + nameBytes + 7) & ~7;
    }
  }
  t.is(new Set(names).size, 102);
  t.is(names.length, 102);
  for (const [ino, node] of fileSystem.nodes) if (ino !== 1) t.is(node.references, 2, "one of create, one of the listing");
  const batch = Buffer.concat([
    words(100, 0),
    ...[...fileSystem.nodes.keys()].filter((ino) => ino !== 1).map((ino) => words(ino, 0, 2, 0)),
  ]);
  t.is(kernel.ask(Opcode.batchForget, 0n, 0, batch), undefined);
  for (const [ino, node] of fileSystem.nodes) if (ino !== 1) t.is(node.references, 0);
});

test("a write's data is held until its promise settles, and reading pauses at the limit", async (t) => {
  const fileSystem = new PendingFileSystem();
  const kernel = new Kernel(fileSystem);
  const write = Buffer.concat([words(1, 0, 0, 0, 4, 0, 0, 0, 0, 0), Buffer.from("data")]);
  t.is(kernel.ask(Opcode.write, 4n, 2, write), undefined);
  t.deepEqual([kernel.engine.held, kernel.engine.paused], [1, false]);
  t.is(kernel.ask(Opcode.write, 6n, 2, write), undefined);
  t.deepEqual([kernel.engine.held, kernel.engine.paused, kernel.dispatcher.counters.inFlight], [2, true, 2]);
  // The interrupt of the first, by its number.
  kernel.ask(Opcode.interrupt, 5n, 0, words(4, 0));
  t.deepEqual(
    fileSystem.signals.map((signal) => signal?.aborted),
    [true, false],
  );
  fileSystem.waiting[0]?.reject(new DazzleError("cancelled", "interrupted"));
  fileSystem.waiting[1]?.resolve(4);
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual([kernel.engine.held, kernel.engine.paused, kernel.dispatcher.counters.inFlight], [0, false, 0]);
  const answers = kernel.engine.replies.slice(1).map((reply) => [reply.readUInt32LE(8), reply.readInt32LE(4)]);
  t.deepEqual(answers, [
    [4, -4],
    [6, 0],
  ]);
});

test("a filesystem that answers more than was asked for is an error, not a broken reply", (t) => {
  const kernel = new Kernel(
    new (class extends MemoryFileSystem {
      override read(): readonly Uint8Array[] {
        return [Buffer.alloc(10), Buffer.alloc(10)];
      }
    })(),
  );
  const read = (length: number): Buffer | undefined => kernel.ask(Opcode.read, 4n, 2, words(1, 0, 0, 0, length, 0, 0, 0, 0, 0));
  t.is(read(20)?.length, 36);
  t.is(read(19)?.readInt32LE(4), -5);
  t.is(kernel.log.length, 1);
});

test("the mount table is read with its escapes", (t) => {
  const line = "41 27 0:46 / /tmp/a\\040b\\134c\\303\\251 rw,nosuid shared:1 - fuse.dazzle my\\040name rw,user_id=0";
  t.deepEqual(parseMountTable(`${line}\n`), [
    { mountpoint: "/tmp/a b\\cé", connection: 46, type: "fuse.dazzle", source: "my name", readOnly: false },
  ]);
});

test("the addon punches holes, reads what is cached, and knows the time since the start", async (t) => {
  const directory = await temporaryDirectory(t);
  const path = `${directory}/file`;
  const fd = openSync(path, "w+");
  writeSync(fd, Buffer.alloc(65536, 7));
  const buffer = Buffer.alloc(16);
  t.is(preadNowait(fd, buffer, 4, 8, 100), 8);
  t.is(buffer.toString("hex"), "00000000070707070707070700000000");
  t.is(preadNowait(fd, buffer, 0, 8, 65536), 0);
  t.throws(() => preadNowait(fd, buffer, 12, 8, 0), { instanceOf: RangeError });
  t.true(punchHole(fd, 0, 4096));
  t.is(preadNowait(fd, buffer, 0, 16, 4088), 16);
  t.is(buffer.toString("hex"), "00000000000000000707070707070707");
  ftruncateSync(fd, 0);
  closeSync(fd);
  t.throws(() => punchHole(fd, 0, 4096), { code: "EBADF" });
  // Its refusals aren't tried here: where one failed, the machine would lose its disk.
  t.throws(() => shutdownFilesystem(`${directory}/missing`), { code: "ENOENT" });
  const before = clockBoottimeMs();
  t.true(before > 0 && clockBoottimeMs() >= before);
  await rm(path);
});

const ROOT: Caller = { uid: 0, gid: 0, pid: 0 };

function words(...values: number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) buffer.writeUInt32LE(value, index * 4);
  return buffer;
}

/** Answers writes when told. */
class PendingFileSystem extends MemoryFileSystem {
  readonly waiting: Array<{ resolve: (written: number) => void; reject: (error: unknown) => void }> = [];
  readonly signals: Array<AbortSignal | undefined> = [];

  override write(caller: Caller): Promise<number> {
    this.signals.push(caller.signal);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }
}
