import { DazzleError, type KernelNotifier } from "@dazzle/core";
import { type Engine, NOTIFICATIONS_MAX } from "./engine.ts";
import { errnoName, errnoNumber } from "./errno.ts";
import { INVALIDATE_ENTRY, INVALIDATE_INODE, NotifyCode, PROTOCOL_MINOR_EPOCH, REPLY_HEADER } from "./protocol.ts";

/** Notifications waiting for one of the threads; more than this fail with `notReady`. */
const WAITING_MAX = 16_384;

/** The kernel has nothing of the object cached, or nothing cached at all any more: what was asked for holds. */
const UNKNOWN = errnoNumber("ENOENT");
const NOTHING_CACHED = new Set([UNKNOWN, ...["ENODEV", "ECONNABORTED", "ENOTCONN"].map(errnoNumber)]);

/** Builds the kernel's notifications and hands them to the engine, a bounded number at once. */
export class Notifier implements KernelNotifier {
  readonly #engine: Engine;
  readonly #waiting: Array<{ message: Buffer; resolve: (errno: number) => void; reject: (error: unknown) => void }> = [];
  #writing = 0;
  #ended = false;
  /** Epochs are counted up one after the other, on a thread that the others leave free. */
  #epoch: Promise<number> = Promise.resolve(0);
  #drained: (() => void) | undefined;
  /** Set once INIT has told. */
  kernelMinor = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  get outstanding(): number {
    return this.#writing + this.#waiting.length;
  }

  async invalidateInode(ino: number, offset: number, length: number): Promise<boolean> {
    const { message, view } = newMessage(NotifyCode.invalidateInode, INVALIDATE_INODE.end);
    view.setBigUint64(INVALIDATE_INODE.ino, BigInt(ino), true);
    // A negative offset keeps all pages; a length of 0 reaches to the end.
    view.setBigInt64(INVALIDATE_INODE.offset, length < 0 ? -1n : BigInt(offset), true);
    view.setBigInt64(INVALIDATE_INODE.length, length < 0 ? 0n : BigInt(length), true);
    return (await this.#send(message)) !== UNKNOWN;
  }

  async invalidateEntry(parent: number, name: string): Promise<void> {
    const { message, view } = newMessage(NotifyCode.invalidateEntry, INVALIDATE_ENTRY.name + name.length + 1);
    view.setBigUint64(INVALIDATE_ENTRY.parent, BigInt(parent), true);
    view.setUint32(INVALIDATE_ENTRY.nameBytes, name.length, true);
    message.write(name, REPLY_HEADER.end + INVALIDATE_ENTRY.name, "latin1");
    await this.#send(message);
  }

  get hasEpoch(): boolean {
    return this.kernelMinor >= PROTOCOL_MINOR_EPOCH;
  }

  /** Every name the kernel has cached is looked up anew when it is next used. Takes no lock, so it never waits for a request. */
  async incrementEpoch(): Promise<void> {
    this.#epoch = this.#epoch.then(() => this.#hand(newMessage(NotifyCode.incrementEpoch, 0).message));
    check(await this.#epoch);
  }

  /** The mount is gone: what waits is settled, and when this resolves nothing is being written. */
  drain(): Promise<void> {
    this.#ended = true;
    for (const { resolve } of this.#waiting.splice(0)) resolve(errnoNumber("ENODEV"));
    if (this.#writing === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  async #send(message: Buffer): Promise<number> {
    return check(await this.#write(message));
  }

  async #write(message: Buffer): Promise<number> {
    if (this.#writing >= NOTIFICATIONS_MAX[this.#engine.kind]) {
      if (this.#waiting.length >= WAITING_MAX) throw new DazzleError("notReady", `${WAITING_MAX} notifications are waiting for the kernel`);
      return new Promise((resolve, reject) => this.#waiting.push({ message, resolve, reject }));
    }
    return this.#hand(message);
  }

  async #hand(message: Buffer): Promise<number> {
    if (this.#ended) return errnoNumber("ENODEV");
    this.#writing += 1;
    try {
      return await this.#engine.notify(message);
    } finally {
      this.#writing -= 1;
      const next = this.#writing < NOTIFICATIONS_MAX[this.#engine.kind] ? this.#waiting.shift() : undefined;
      if (next !== undefined) this.#write(next.message).then(next.resolve, next.reject);
      else if (this.#writing === 0) this.#drained?.();
    }
  }
}

function check(errno: number): number {
  if (errno === 0 || NOTHING_CACHED.has(errno)) return errno;
  throw new DazzleError("inputOutput", `the kernel refused a notification: ${errnoName(errno)}`);
}

function newMessage(code: number, bodyBytes: number): { message: Buffer; view: DataView } {
  const message = Buffer.alloc(REPLY_HEADER.end + bodyBytes);
  message.writeUInt32LE(message.length, REPLY_HEADER.length);
  message.writeInt32LE(code, REPLY_HEADER.error);
  return { message, view: new DataView(message.buffer, message.byteOffset + REPLY_HEADER.end, bodyBytes) };
}
