import { covers, regionsOf } from "@dazzle/core";
import { Needs, NeedsToken } from "./needs.ts";
import type { Node } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";

/** What keeps a token here until a write is done. */
export class Pin {
  #letGo: (() => void) | null = null;

  get isHeld(): boolean {
    return this.#letGo !== null;
  }

  hold(letGo: () => void): void {
    this.letGo();
    this.#letGo = letGo;
  }

  letGo(): void {
    this.#letGo?.();
    this.#letGo = null;
  }
}

/** Reading and writing parts of files that other mounts write other parts of. */
export class Parts {
  readonly #objects: ObjectTable;

  constructor(objects: ObjectTable) {
    this.#objects = objects;
  }

  /** The node, where these bytes are here, and certainly are within the file. Behind the size that is known here the end may lie, or what another mount wrote. A mount
   * that has a part of the file and reads another one's asks for that, as to write there: whoever writes elsewhere goes on. */
  readable(ino: number, offset: number, length: number): Node | undefined {
    const wanted = regionsOf(offset, length);
    const whole = this.#objects.cached(ino, false);
    if (whole !== undefined) return whole;
    const part = this.#objects.present(ino);
    if (part === undefined || offset + length > part.inode.size) return undefined;
    if (covers(part.range, wanted)) return part;
    throw new NeedsToken({ acquirePinned: () => this.#objects.acquireRangePinned(ino, wanted) }, ino, true);
  }

  /** The node, where these bytes are here alone: else they are asked for, and pinned. */
  writable(ino: number, offset: number, length: number, pin: Pin): Node {
    const wanted = regionsOf(offset, length);
    const node = this.#objects.cached(ino, true) ?? this.#objects.cachedRange(ino, wanted);
    if (node !== undefined) return node;
    throw new Needs(async () => {
      // Whoever takes the token away waits for the pin.
      pin.letGo();
      pin.hold(await this.#objects.acquireRangePinned(ino, wanted));
    });
  }
}
