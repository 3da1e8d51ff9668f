import type { FileSystem } from "@dazzle/core";
import { RequestCaller } from "./caller.ts";
import type { Chunk } from "./chunk-pool.ts";
import { Counters } from "./counters.ts";
import type { Engine, RequestReceiver } from "./engine.ts";
import { ErrnoError, errnoName, errnoNumber, errnoOf } from "./errno.ts";
import { type Negotiated, negotiate } from "./negotiation.ts";
import { OPERATIONS, type Operation } from "./operations.ts";
import { BATCH_FORGET_REQUEST, FORGET_REQUEST, INIT_REPLY, INTERRUPT_REQUEST, Opcode, READ_WRITE_REQUEST } from "./protocol.ts";
import { NO_TAIL, type ReplyBuffer } from "./reply.ts";
import { Request } from "./request.ts";

const EIO = errnoNumber("EIO");
const EINTR = errnoNumber("EINTR");
const ENOENT = errnoNumber("ENOENT");
const ENODEV = errnoNumber("ENODEV");
const ENOLCK = errnoNumber("ENOLCK");
const ENOSYS = errnoNumber("ENOSYS");
const ENOTTY = errnoNumber("ENOTTY");
const EPROTO = errnoNumber("EPROTO");

/** Processes waiting for locks. They don't count as in flight: the request that unlocks must still be read. */
const LOCK_WAITS_MAX = 4096;

export interface DispatcherOptions {
  readonly inFlightMax: number;
  readonly log: (line: string) => void;
  /** INIT was answered, or could not be. */
  readonly negotiated: (result: Negotiated | string) => void;
  readonly ended: (errno: number | undefined) => void;
}

/**
 * Turns requests into calls of the filesystem and its answers into replies. What the filesystem answers without a promise is replied
 * before the next request is looked at; nothing is allocated for it but the caller and the names.
 */
export class Dispatcher implements RequestReceiver {
  readonly counters = new Counters();
  readonly #fileSystem: FileSystem;
  readonly #engine: Engine;
  readonly #reply: ReplyBuffer;
  readonly #options: DispatcherOptions;
  readonly #request = new Request();
  /** Requests answered by a promise not yet settled, by `unique`. INVARIANT: its size is `inFlight` + `lockWaits`. */
  readonly #pending = new Map<number, RequestCaller>();
  #negotiated: Negotiated | undefined;
  #inFlight = 0;
  #lockWaits = 0;
  #paused = false;
  #ended = false;

  constructor(fileSystem: FileSystem, engine: Engine, reply: ReplyBuffer, options: DispatcherOptions) {
    this.#fileSystem = fileSystem;
    this.#engine = engine;
    this.#reply = reply;
    this.#options = options;
  }

  receive(chunk: Chunk, offset: number, length: number): void {
    const request = this.#request;
    if (!request.open(chunk.buffer, chunk.view, offset, length)) {
      this.#options.log(`fuse: ${length} bytes from the kernel are no request`);
      return;
    }
    this.counters.count(request.opcode);
    const row = OPERATIONS[request.opcode];
    if (row === undefined || this.#negotiated === undefined) this.#special(request);
    else this.#run(row, request, this.#negotiated, chunk);
  }

  batchEnd(): void {
    if (this.#inFlight < this.#options.inFlightMax || this.#paused) return;
    this.#paused = true;
    this.#engine.pause();
  }

  ended(errno: number | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const caller of this.#pending.values()) caller.interrupt();
    this.#options.ended(errno);
  }

  #run(row: Operation, request: Request, negotiated: Negotiated, chunk: Chunk): void {
    const { opcode, uniqueLow, uniqueHigh } = request;
    const limit = row.limitField === undefined ? 0 : request.uint32(row.limitField);
    const waits = opcode === Opcode.setLockWait;
    if (waits && this.#lockWaits >= LOCK_WAITS_MAX) {
      this.#sendStatus(uniqueLow, uniqueHigh, ENOLCK);
      return;
    }
    if (opcode === Opcode.write) this.counters.bytesWritten += request.uint32(READ_WRITE_REQUEST.bytes);
    const caller = new RequestCaller(request.uid, request.gid, request.pid);
    let answer: unknown;
    try {
      answer = row.call(this.#fileSystem, caller, request, negotiated);
    } catch (error) {
      this.#fail(opcode, uniqueLow, uniqueHigh, caller, error);
      return;
    }
    if (answer instanceof Promise) this.#later(row, opcode, uniqueLow, uniqueHigh, limit, caller, chunk, answer);
    else this.#answer(row, opcode, uniqueLow, uniqueHigh, limit, caller, answer);
  }

  #later(
    row: Operation,
    opcode: number,
    uniqueLow: number,
    uniqueHigh: number,
    limit: number,
    caller: RequestCaller,
    chunk: Chunk,
    answer: Promise<unknown>,
  ): void {
    const key = uniqueKey(uniqueLow, uniqueHigh);
    const holds = opcode === Opcode.write;
    const waits = opcode === Opcode.setLockWait;
    this.#pending.set(key, caller);
    if (waits) this.#lockWaits += 1;
    else this.#inFlight += 1;
    this.counters.inFlight = this.#inFlight + this.#lockWaits;
    if (holds) this.#engine.hold(chunk);
    const settle = (): void => {
      this.#pending.delete(key);
      if (waits) this.#lockWaits -= 1;
      else this.#inFlight -= 1;
      this.counters.inFlight = this.#inFlight + this.#lockWaits;
      if (holds) this.#engine.release(chunk);
      if (this.#paused && this.#inFlight < this.#options.inFlightMax) {
        this.#paused = false;
        this.#engine.resume();
      }
    };
    answer.then(
      (value) => {
        this.#answer(row, opcode, uniqueLow, uniqueHigh, limit, caller, value);
        settle();
      },
      (error: unknown) => {
        this.#fail(opcode, uniqueLow, uniqueHigh, caller, error);
        settle();
      },
    );
  }

  #answer(
    row: Operation,
    opcode: number,
    uniqueLow: number,
    uniqueHigh: number,
    limit: number,
    caller: RequestCaller,
    value: unknown,
  ): void {
    const reply = this.#reply;
    try {
      const bodyBytes = row.encode(reply, value as never, limit, this.#fileSystem);
      reply.finish(uniqueLow, uniqueHigh, bodyBytes);
    } catch (error) {
      this.#fail(opcode, uniqueLow, uniqueHigh, caller, error);
      return;
    }
    this.#send();
  }

  #fail(opcode: number, uniqueLow: number, uniqueHigh: number, caller: RequestCaller, error: unknown): void {
    let errno = error instanceof ErrnoError ? error.errno : errnoOf(error);
    // Whoever was interrupted may say so with the signal's own error.
    if (errno === undefined && caller.interrupted && error instanceof Error && error.name === "AbortError") errno = EINTR;
    if (errno === undefined) {
      errno = EIO;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#options.log(`fuse: ${this.counters.nameOf(opcode)} failed unexpectedly: ${text.replaceAll("\n", " |")}`);
    }
    this.#sendStatus(uniqueLow, uniqueHigh, errno);
  }

  #sendStatus(uniqueLow: number, uniqueHigh: number, errno: number): void {
    this.#reply.status(uniqueLow, uniqueHigh, errno);
    this.#send();
  }

  #send(): void {
    const reply = this.#reply;
    let errno: number;
    if (reply.tail === NO_TAIL) {
      errno = this.#engine.send(reply.length);
    } else {
      const tail = reply.tail;
      reply.tail = NO_TAIL;
      for (const piece of tail) this.counters.bytesRead += piece.length;
      errno = this.#engine.sendPieces(reply.length, tail);
    }
    // ENOENT: the request was aborted. ENODEV: unmounted; the next read says so.
    if (errno !== 0 && errno !== ENOENT && errno !== ENODEV) this.#options.log(`fuse: the kernel refused an answer: ${errnoName(errno)}`);
  }

  /** What is no operation of the filesystem. */
  #special(request: Request): void {
    switch (request.opcode) {
      case Opcode.init:
        this.#init(request);
        break;
      case Opcode.forget:
        this.#forget(request.ino, request.uint64(FORGET_REQUEST.references));
        break;
      case Opcode.batchForget:
        this.#batchForget(request);
        break;
      case Opcode.interrupt:
        // A request that is finished is no longer there: nothing to do, and nothing is replied.
        this.#pending.get(request.uint64(INTERRUPT_REQUEST.unique))?.interrupt();
        break;
      case Opcode.notifyReply:
        break;
      case Opcode.destroy:
        this.#sendStatus(request.uniqueLow, request.uniqueHigh, 0);
        break;
      case Opcode.ioctl:
        this.#sendStatus(request.uniqueLow, request.uniqueHigh, ENOTTY);
        break;
      default:
        // access and its like too: the kernel doesn't ask again, and checks permissions itself (default_permissions).
        this.#sendStatus(request.uniqueLow, request.uniqueHigh, this.#negotiated === undefined ? EIO : ENOSYS);
    }
  }

  #init(request: Request): void {
    const result = negotiate(request, this.#reply);
    if (typeof result === "string") {
      this.#sendStatus(request.uniqueLow, request.uniqueHigh, EPROTO);
    } else {
      this.#negotiated = result;
      this.#reply.finish(request.uniqueLow, request.uniqueHigh, INIT_REPLY.end);
      this.#send();
    }
    this.#options.negotiated(result);
  }

  #batchForget(request: Request): void {
    const count = request.uint32(BATCH_FORGET_REQUEST.count);
    for (let index = 0; index < count; index++) {
      const row = BATCH_FORGET_REQUEST.rows + index * BATCH_FORGET_REQUEST.rowBytes;
      if (row + BATCH_FORGET_REQUEST.rowBytes > request.bodyBytes) return;
      this.#forget(request.uint64(row + BATCH_FORGET_REQUEST.rowIno), request.uint64(row + BATCH_FORGET_REQUEST.rowReferences));
    }
  }

  /** Nobody is told of a failure here, and it must not stop the requests behind it. */
  #forget(ino: number, references: number): void {
    try {
      this.#fileSystem.forget(ino, references);
    } catch (error) {
      this.#options.log(`fuse: forget of ${ino} failed: ${String(error)}`);
    }
  }
}

/** Exact while `unique` is below 2^53. Beyond, two requests in flight would have to be neighbours to be confused, and only for an interrupt. */
function uniqueKey(low: number, high: number): number {
  return low + high * 4294967296;
}
