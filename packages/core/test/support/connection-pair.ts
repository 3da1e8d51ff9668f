import type { Connection, Frame } from "@dazzle/core";

class Half implements Connection {
  readonly remote: string;
  readonly bufferedBytes = 0;
  readonly sent: Frame[] = [];
  other: Half | undefined;
  #closed = false;
  #onFrame: (frame: Frame) => void = () => {};
  #onClose: (reason: string) => void = () => {};

  constructor(remote: string) {
    this.remote = remote;
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(frame: Frame): void {
    if (this.#closed) return;
    this.sent.push(frame);
    const copy = { header: Buffer.from(frame.header), tail: frame.tail.map((piece) => Buffer.from(piece)) };
    queueMicrotask(() => this.other?.deliver(copy));
  }

  deliver(frame: Frame): void {
    if (!this.#closed) this.#onFrame(frame);
  }

  onFrame(handler: (frame: Frame) => void): void {
    this.#onFrame = handler;
  }

  onClose(handler: (reason: string) => void): void {
    this.#onClose = handler;
  }

  close(): void {
    this.end("closed here");
    this.other?.end("closed by the other side");
  }

  end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose(reason);
  }
}

export type TestConnection = Half;

/** Two ends of one connection in memory: frames arrive in order, one microtask later, copied. */
export function connectionPair(): [Half, Half] {
  const left = new Half("memory:right");
  const right = new Half("memory:left");
  left.other = right;
  right.other = left;
  return [left, right];
}
