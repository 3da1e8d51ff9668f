import { asBuffer, type Connection, decodeHeader, type Frame, totalBytes } from "@dazzle/core";
import type { SimProcess } from "./process.ts";
import type { SeededRandom } from "./random.ts";

/** What a connection needs of the network. */
export interface ConnectionHost {
  readonly random: SeededRandom;
  readonly nowMs: number;
  schedule(delayMs: number, owner: SimProcess | null, action: () => void): void;
  /** How long a frame takes from one process to another. */
  delayMs(from: SimProcess, to: SimProcess): number;
  delivered(what: string): void;
  resets(): boolean;
  tailRecut(): void;
  tailReused(error: Error | null): void;
  framesHeld(): void;
  framesLost(count: number): void;
  forget(connection: SimConnection): void;
}

interface FrameInFlight {
  readonly atMs: number;
  readonly bytes: number;
  readonly header: Uint8Array;
  /** The tail as it was when it was sent, and the sender's own pieces. */
  readonly tail: Buffer;
  readonly pieces: readonly Uint8Array[];
}

interface CloseInFlight {
  readonly atMs: number;
  readonly bytes: 0;
  readonly reason: string;
}

const CUTS_MAX = 3;

/** One direction of a connection: what was sent and has not arrived, in order. */
class Channel {
  readonly #host: ConnectionHost;
  readonly #from: SimEnd;
  readonly #to: SimEnd;
  #queue: Array<FrameInFlight | CloseInFlight> = [];
  #bytes = 0;
  #lastMs: number;
  #awaitsHead = false;
  #held = false;

  constructor(host: ConnectionHost, from: SimEnd, to: SimEnd, firstMs: number) {
    this.#host = host;
    this.#from = from;
    this.#to = to;
    this.#lastMs = firstMs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  send(frame: Frame): void {
    const tail = Buffer.concat(frame.tail);
    const header = Buffer.from(frame.header);
    this.#push({ atMs: this.#arrival(), bytes: header.byteLength + tail.byteLength, header, tail, pieces: frame.tail });
  }

  close(reason: string): void {
    this.#push({ atMs: this.#arrival(), bytes: 0, reason });
  }

  /** Loses all but the first `kept` of what is under way. */
  cutTo(kept: number): void {
    const lost = this.#queue.splice(kept);
    for (const item of lost) this.#bytes -= item.bytes;
    if (lost.length > 0) this.#host.framesLost(lost.length);
  }

  get length(): number {
    return this.#queue.length;
  }

  hold(held: boolean): void {
    this.#held = held;
    if (held && this.#queue.length > 0) this.#host.framesHeld();
    if (!held) this.#awaitHead();
  }

  #arrival(): number {
    this.#lastMs = Math.max(this.#lastMs, this.#host.nowMs + this.#host.delayMs(this.#from.process, this.#to.process));
    return this.#lastMs;
  }

  #push(item: FrameInFlight | CloseInFlight): void {
    this.#queue.push(item);
    this.#bytes += item.bytes;
    if (this.#held) this.#host.framesHeld();
    this.#awaitHead();
  }

  #awaitHead(): void {
    const head = this.#queue[0];
    if (head === undefined || this.#awaitsHead || this.#held) return;
    this.#awaitsHead = true;
    const dueMs = Math.max(head.atMs, this.#to.process.frozenUntilMs);
    this.#host.schedule(Math.max(0, dueMs - this.#host.nowMs), null, () => {
      this.#awaitsHead = false;
      if (this.#to.process.frozenUntilMs > this.#host.nowMs) return this.#awaitHead();
      if (this.#held) return;
      const item = this.#queue[0];
      if (item !== undefined && item.atMs <= this.#host.nowMs) {
        this.#queue.shift();
        this.#bytes -= item.bytes;
        this.#deliver(item);
      }
      this.#awaitHead();
    });
  }

  #deliver(item: FrameInFlight | CloseInFlight): void {
    if ("reason" in item) {
      this.#to.hear(item.reason);
      return;
    }
    this.#host.delivered(`${this.#from.process.id}>${this.#to.process.id} ${item.header.byteLength}+${item.tail.byteLength}`);
    if (this.#host.resets()) {
      this.#host.framesLost(1);
      this.#from.connection.break("connection reset");
      return;
    }
    this.#to.receive({ header: item.header, tail: this.#recut(this.#arrived(item)) });
  }

  /** The tail as it arrives: the bytes that were sent, or, where the sender was free to reuse them, what they are now. */
  #arrived(item: FrameInFlight): Buffer {
    if (unchanged(item.pieces, item.tail)) return item.tail;
    const free = this.#from.closed || !this.#from.process.alive || this.#cancels(item);
    this.#host.tailReused(
      free ? null : new Error(`${this.#from.process.id} changed a tail of ${item.bytes} bytes before ${this.#to.process.id} had it`),
    );
    return Buffer.concat(item.pieces);
  }

  /** Whether the sender has given up this request: then its buffers are its own again, while the frame is still under way. */
  #cancels(item: FrameInFlight): boolean {
    const request = decodeHeader(item.header);
    return this.#queue.some((later) => {
      if ("reason" in later) return false;
      const packet = decodeHeader(later.header);
      return packet.kind === "cancel" && packet.id === request.id;
    });
  }

  #recut(tail: Buffer): Uint8Array[] {
    if (tail.byteLength === 0) return [];
    const random = this.#host.random;
    const cuts = Array.from({ length: random.below(CUTS_MAX + 1) }, () => random.below(tail.byteLength)).sort((one, other) => one - other);
    if (cuts.length > 0) this.#host.tailRecut();
    const pieces: Uint8Array[] = [];
    let start = 0;
    for (const end of [...cuts, tail.byteLength]) {
      if (end > start) pieces.push(tail.subarray(start, end));
      start = end;
    }
    return pieces;
  }
}

function unchanged(pieces: readonly Uint8Array[], sent: Buffer): boolean {
  if (totalBytes(pieces) !== sent.byteLength) return false;
  let offset = 0;
  for (const piece of pieces) {
    if (asBuffer(piece).compare(sent, offset, offset + piece.byteLength) !== 0) return false;
    offset += piece.byteLength;
  }
  return true;
}

/** One end, as its process holds it. */
export class SimEnd implements Connection {
  readonly remote: string;
  readonly process: SimProcess;
  readonly connection: SimConnection;
  readonly #host: ConnectionHost;
  out!: Channel;
  #frameHandler: ((frame: Frame) => void) | null = null;
  #closeHandler: ((reason: string) => void) | null = null;
  readonly #unread: Frame[] = [];
  #closed: string | null = null;
  #reported = false;

  constructor(connection: SimConnection, process: SimProcess, remote: string, host: ConnectionHost) {
    this.connection = connection;
    this.process = process;
    this.remote = remote;
    this.#host = host;
  }

  get closed(): boolean {
    return this.#closed !== null;
  }

  get bufferedBytes(): number {
    return this.out.bytes;
  }

  send(frame: Frame): void {
    if (this.closed || !this.process.alive) return;
    if (this.connection.broken) this.connection.heardBySending(this);
    else this.out.send(frame);
  }

  onFrame(handler: (frame: Frame) => void): void {
    this.#frameHandler = handler;
    for (const frame of this.#unread.splice(0)) handler(frame);
  }

  onClose(handler: (reason: string) => void): void {
    this.#closeHandler = handler;
    this.#report();
  }

  close(): void {
    if (this.closed || !this.process.alive) return;
    if (!this.connection.broken) this.out.close("closed by the other side");
    this.#end("closed here");
  }

  /** The other side closed, or the network broke. */
  hear(reason: string): void {
    if (this.closed || !this.process.alive) return;
    this.out.cutTo(0);
    this.#end(reason);
  }

  receive(frame: Frame): void {
    if (this.closed || !this.process.alive) return;
    if (this.#frameHandler === null) this.#unread.push(frame);
    else this.#frameHandler(frame);
  }

  #end(reason: string): void {
    this.#closed = reason;
    this.connection.endClosed();
    this.#host.schedule(0, this.process, () => this.#report());
  }

  #report(): void {
    if (this.#closed === null || this.#reported || this.#closeHandler === null) return;
    this.#reported = true;
    this.#closeHandler(this.#closed);
  }
}

/** Both ends, and what happens to them together. */
export class SimConnection {
  readonly client: SimEnd;
  readonly server: SimEnd;
  readonly #host: ConnectionHost;
  #broken: string | null = null;

  /** `firstMs`: when the client's process learns that it is connected, so that nothing reaches it before. */
  constructor(host: ConnectionHost, client: SimProcess, server: SimProcess, address: string, firstMs: number) {
    this.#host = host;
    this.client = new SimEnd(this, client, address, host);
    this.server = new SimEnd(this, server, `sim:${client.id}`, host);
    this.client.out = new Channel(host, this.client, this.server, 0);
    this.server.out = new Channel(host, this.server, this.client, firstMs);
  }

  get broken(): boolean {
    return this.#broken !== null;
  }

  get ends(): readonly [SimEnd, SimEnd] {
    return [this.client, this.server];
  }

  /** What is under way is lost, and each end hears of it after its delay; undefined: only once it sends something. */
  break(reason: string, delaysMs: readonly [number | undefined, number | undefined] = [0, 0]): void {
    if (this.#broken !== null) return;
    this.#broken = reason;
    this.ends.forEach((end, index) => {
      end.out.cutTo(0);
      const delayMs = delaysMs[index];
      if (delayMs !== undefined) this.#host.schedule(delayMs, end.process, () => end.hear(reason));
    });
  }

  /** An end that does not know yet that the connection broke: what it sends meets nobody, and in a while it learns why. */
  heardBySending(end: SimEnd): void {
    const reason = this.#broken ?? "connection broken";
    this.#host.framesLost(1);
    this.#host.schedule(this.#host.random.between(0, 5_000), end.process, () => end.hear(reason));
  }

  /** What this end sends waits until `release`. */
  hold(end: SimEnd): void {
    end.out.hold(true);
  }

  release(): void {
    for (const end of this.ends) end.out.hold(false);
  }

  /** The process of one end is gone: some of what it sent still arrives, then the other side sees it close. */
  abandon(end: SimEnd): void {
    const other = end === this.client ? this.server : this.client;
    other.out.cutTo(0);
    if (end.closed || this.broken) return;
    end.out.cutTo(this.#host.random.below(end.out.length + 1));
    end.out.close("the other process ended");
  }

  endClosed(): void {
    if (this.ends.every((end) => end.closed || !end.process.alive)) this.#host.forget(this);
  }
}
