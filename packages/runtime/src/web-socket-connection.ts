import type { Socket } from "node:net";
import type { Address, Connection, Frame } from "@dazzle/core";
import type WebSocket from "ws";
import { cutFrame, joinFrame } from "./frames.ts";

/** Corked bytes are handed over early from here on, so that the other side can begin. */
const CORKED_BYTES_MAX = 256 * 1024;

/** Frames over one WebSocket. What one turn of the event loop sends leaves in one write: the socket is corked at the
 * first frame and uncorked when the turn's callbacks have run. Tail pieces received may be views of a larger buffer
 * that holds neighbouring messages: copy what is kept for long. */
export class WebSocketConnection implements Connection {
  readonly remote: Address;
  readonly #webSocket: WebSocket;
  readonly #socket: Socket;
  #corkedBytes = 0;
  #corked = false;
  #frameHandler: ((frame: Frame) => void) | null = null;
  #early: Frame[] = [];
  #closeHandlers: Array<(reason: string) => void> = [];
  #reason: string | null = null;
  #failure = "";

  constructor(webSocket: WebSocket, socket: Socket, remote: Address) {
    this.#webSocket = webSocket;
    this.#socket = socket;
    this.remote = remote;
    // No joining of fragments on receipt: @types/ws and ws agree on the name.
    webSocket.binaryType = "fragments";
    webSocket.on("message", (data) => this.#receive(data as Buffer[]));
    webSocket.on("error", (error) => {
      this.#failure = error.message;
    });
    webSocket.on("close", (_code, reason) => this.#end(this.#failure || reason.toString() || "the other side closed the connection"));
  }

  get bufferedBytes(): number {
    return this.#webSocket.bufferedAmount;
  }

  send(frame: Frame): void {
    if (this.#reason !== null) return;
    if (!this.#corked) this.#cork();
    const pieces = cutFrame(frame);
    const last = pieces.length - 1;
    for (let index = 0; index <= last; index++) {
      const piece = pieces[index] as Buffer;
      this.#corkedBytes += piece.byteLength;
      this.#webSocket.send(piece, { binary: true, fin: index === last });
    }
    if (this.#corkedBytes > CORKED_BYTES_MAX) this.#uncork();
  }

  #cork(): void {
    this.#corked = true;
    this.#socket.cork();
    process.nextTick(() => this.#uncork());
  }

  #uncork(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.#corkedBytes = 0;
    this.#socket.uncork();
  }

  onFrame(handler: (frame: Frame) => void): void {
    this.#frameHandler = handler;
    for (const frame of this.#early.splice(0)) handler(frame);
  }

  onClose(handler: (reason: string) => void): void {
    if (this.#reason !== null) handler(this.#reason);
    else this.#closeHandlers.push(handler);
  }

  /** At once: what is still queued refers to buffers that their owner may use again, and must not leave later. */
  close(): void {
    this.terminate("closed on this side");
  }

  /** As `close`, for that reason. */
  terminate(reason: string): void {
    this.#webSocket.terminate();
    this.#end(reason);
  }

  #receive(pieces: readonly Buffer[]): void {
    if (this.#reason !== null) return;
    let frame: Frame;
    try {
      frame = joinFrame(pieces);
    } catch (error) {
      this.terminate((error as Error).message);
      return;
    }
    if (this.#frameHandler === null) this.#early.push(frame);
    else this.#frameHandler(frame);
  }

  #end(reason: string): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    const handlers = this.#closeHandlers;
    this.#closeHandlers = [];
    for (const handler of handlers) handler(reason);
  }
}
