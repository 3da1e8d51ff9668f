import { writeSync, writevSync } from "node:fs";
import { Socket } from "node:net";
import { type Chunk, ChunkPool } from "./chunk-pool.ts";
import { type Engine, REPLY_PIECES_MAX, type RequestReceiver } from "./engine.ts";
import { errnoNumber } from "./errno.ts";
import { NotifyWorkers } from "./notify-workers.ts";
import { REQUEST_BYTES_MAX } from "./protocol.ts";

/** libuv's stream around a descriptor, as `process.binding` shows it. */
interface PipeHandle {
  open(fd: number): number;
  readStart(): number;
  readStop(): number;
  reading: boolean;
}

const PIPE_SOCKET = 0;
const ENODEV = errnoNumber("ENODEV");
const ENDED = new Set(["ENODEV", "ECONNABORTED", "ENOENT", "EOF"]);

/** Engine 2, without the addon: libuv takes the device for a pipe, one request a read. */
export class NodeEngine implements Engine {
  readonly kind = "node";
  readonly #fd: number;
  readonly #handle: PipeHandle;
  readonly #out: Uint8Array;
  readonly #pool = new ChunkPool();
  readonly #workers: NotifyWorkers;
  /** The chunk that libuv reads into; INVARIANT: at offset `#offset`, REQUEST_BYTES_MAX long. */
  #chunk: Chunk;
  #offset = 0;
  #socket: Socket | undefined;
  #paused = false;
  #outOfMemory = false;
  #closed = false;

  /** The descriptor (non-blocking) is the engine's from now on. `out` is the reply buffer. */
  constructor(fd: number, out: Uint8Array) {
    this.#fd = fd;
    this.#out = out;
    this.#chunk = this.#pool.current;
    this.#workers = new NotifyWorkers(fd);
    this.#handle = pipeHandle();
    const error = this.#handle.open(fd);
    if (error !== 0) throw new Error(`the FUSE device can't be read as a stream (libuv error ${error})`);
  }

  start(receiver: RequestReceiver): void {
    const socket = new Socket({
      handle: this.#handle,
      allowHalfOpen: true,
      onread: {
        buffer: () => this.#nextBuffer() as Uint8Array,
        callback: (length: number) => {
          this.#receive(receiver, length);
          return true;
        },
      },
    } as unknown as ConstructorParameters<typeof Socket>[0]);
    this.#socket = socket;
    const ended = (code: string): void => {
      if (!this.#closed) receiver.ended(ENDED.has(code) ? undefined : errnoNumber(code));
    };
    socket.on("error", (error: NodeJS.ErrnoException) => ended(error.code ?? "EIO"));
    socket.on("end", () => ended("EOF"));
  }

  send(length: number): number {
    // The descriptor's number may be another file's after closing.
    if (this.#closed) return ENODEV;
    try {
      writeSync(this.#fd, this.#out, 0, length);
      return 0;
    } catch (error) {
      return writeErrno(error);
    }
  }

  sendPieces(length: number, pieces: readonly Uint8Array[]): number {
    if (this.#closed) return ENODEV;
    try {
      const head = this.#out.subarray(0, length);
      writevSync(this.#fd, pieces.length > REPLY_PIECES_MAX ? [head, Buffer.concat(pieces)] : [head, ...pieces]);
      return 0;
    } catch (error) {
      return writeErrno(error);
    }
  }

  notify(message: Uint8Array): Promise<number> {
    return this.#workers.write(message);
  }

  pause(): void {
    this.#paused = true;
    this.#stopReading();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#outOfMemory) this.#startReading();
  }

  hold(chunk: Chunk): void {
    this.#pool.hold(chunk);
  }

  release(chunk: Chunk): void {
    this.#pool.release(chunk);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#workers.close();
    this.#socket?.destroy();
  }

  #receive(receiver: RequestReceiver, length: number): void {
    const chunk = this.#chunk;
    receiver.receive(chunk, this.#offset, length);
    if (!this.#pool.next((length + 7) & ~7, () => this.#onMemory())) {
      this.#outOfMemory = true;
      this.#stopReading();
    }
    receiver.batchEnd();
  }

  /** Called for the first buffer and after each read; undefined leaves the buffer as it is, which is cheaper. */
  #nextBuffer(): Uint8Array | undefined {
    const chunk = this.#pool.current;
    const offset = this.#outOfMemory ? this.#offset : this.#pool.used;
    if (this.#socket !== undefined && chunk === this.#chunk && offset === this.#offset) return undefined;
    this.#chunk = chunk;
    this.#offset = offset;
    return chunk.buffer.subarray(offset, offset + REQUEST_BYTES_MAX);
  }

  #onMemory(): void {
    // The stream only takes another buffer after a read. The one it has belongs to a held request, unless that is the one released.
    this.#outOfMemory = false;
    const buffer = this.#nextBuffer();
    if (buffer !== undefined) (this.#handle as unknown as { useUserBuffer(buffer: Uint8Array): void }).useUserBuffer(buffer);
    if (!this.#paused) this.#startReading();
  }

  #stopReading(): void {
    this.#handle.reading = false;
    this.#handle.readStop();
  }

  #startReading(): void {
    if (this.#closed || this.#socket === undefined || this.#socket.destroyed) return;
    this.#handle.reading = true;
    this.#handle.readStart();
  }
}

/** `process.binding` is deprecated (DEP0111) without anything in its place for a descriptor like this one; the warning is silenced for
 * this call alone. The addon needs none of it. */
function pipeHandle(): PipeHandle {
  const node = process as unknown as { binding(name: string): { Pipe: new (type: number) => PipeHandle }; noDeprecation: boolean };
  const before = node.noDeprecation;
  node.noDeprecation = true;
  try {
    return new (node.binding("pipe_wrap").Pipe)(PIPE_SOCKET);
  } finally {
    node.noDeprecation = before;
  }
}

function writeErrno(error: unknown): number {
  const errno = (error as NodeJS.ErrnoException).errno;
  if (errno === undefined) throw error;
  return -errno;
}
