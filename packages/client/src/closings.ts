import type { Clock, Logger } from "@dazzle/core";
import type { Handles } from "./handles.ts";
import { byManager, type SlotLink } from "./slot-link.ts";

/** Tells managers of files that were closed here, where it matters: those of which they were told that they are open, and those
 * that have lost their last name while somebody has them open (rule 17). */
export class Closings {
  readonly #mount: number;
  readonly #links: (ino: number) => SlotLink;
  readonly #handles: Handles;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Files that some manager was told are open here. */
  readonly #told = new Set<number>();
  /** To be told of in a later turn, with what must be applied before. */
  readonly #closed = new Map<number, () => Promise<void>>();
  readonly #telling = new Map<number, Promise<void>>();

  constructor(options: { mount: number; links: (ino: number) => SlotLink; handles: Handles; clock: Clock; logger: Logger }) {
    this.#mount = options.mount;
    this.#links = options.links;
    this.#handles = options.handles;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** For a manager that asks: whether the file is open here. */
  async isOpen(ino: number): Promise<boolean> {
    // What is told before must not be heard after the answer.
    await this.#telling.get(ino);
    const open = this.#handles.isOpen(ino);
    if (open) this.#told.add(ino);
    else this.#told.delete(ino);
    return open;
  }

  /** A manager is told that the file is open here. */
  told(ino: number): void {
    this.#told.add(ino);
  }

  /** The last handle was closed. */
  wasTold(ino: number): boolean {
    return this.#told.has(ino);
  }

  /** Has the manager told, once `settle` has resolved, unless the file is open again by then. */
  tell(ino: number, settle: () => Promise<void>): void {
    this.#closed.set(ino, settle);
    if (this.#closed.size === 1) this.#clock.soon(() => void this.#tellAll());
  }

  async #tellAll(): Promise<void> {
    const closed = [...this.#closed];
    this.#closed.clear();
    try {
      for (const [, settle] of closed) await settle();
      const still = closed.map(([ino]) => ino).filter((ino) => !this.#handles.isOpen(ino));
      for (const ino of still) this.#told.delete(ino);
      for (const { link, inos } of byManager(still, this.#links)) this.#send(link, inos);
    } catch (error) {
      this.#failed(error as Error);
    }
  }

  #send(link: SlotLink, inos: readonly number[]): void {
    const told = link.call("closed", { mount: this.#mount, inos }).then(
      () => {},
      (error: Error) => this.#failed(error),
    );
    for (const ino of inos) this.#telling.set(ino, told);
    void told.then(() => {
      for (const ino of inos) if (this.#telling.get(ino) === told) this.#telling.delete(ino);
    });
  }

  /** The manager finds out when the mount ends. */
  #failed(error: Error): void {
    this.#logger("warning", "a manager could not be told of closed files", { reason: error.message });
  }
}
