import type { Clock, Logger } from "@dazzle/core";
import type { Handles } from "./handles.ts";
import { byManager, type SlotLink } from "./slot-link.ts";

/** Tells managers of files that were closed here, where it matters: those of which they were told that they are open, and those
 * that have lost their last name while somebody has them open (rule 17). */
export class Closings {
  readonly #mount: number;
  readonly #links: (ino: number) => SlotLink;
  readonly #handles: Handles;
  readonly #settle: (ino: number) => Promise<void>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Files that some manager was told are open here. */
  readonly #told = new Set<number>();
  /** To be settled from a later turn on. */
  readonly #closed = new Set<number>();
  /** To be told of together, in a later turn. */
  readonly #settled = new Set<number>();
  /** What could not be told, until `retry`. */
  readonly #untold = new Set<number>();
  readonly #telling = new Map<number, Promise<void>>();
  #warned = false;

  /** `settle`: resolves when what was done to the file is applied. */
  constructor(options: {
    mount: number;
    links: (ino: number) => SlotLink;
    handles: Handles;
    settle: (ino: number) => Promise<void>;
    clock: Clock;
    logger: Logger;
  }) {
    this.#mount = options.mount;
    this.#links = options.links;
    this.#handles = options.handles;
    this.#settle = options.settle;
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

  /** Has the manager told, once the file is settled, unless it is open again by then. */
  tell(ino: number): void {
    this.#closed.add(ino);
    if (this.#closed.size === 1) this.#clock.soon(() => this.#settleAll());
  }

  /** Tells what could not be told. To be called now and then. */
  retry(): void {
    for (const ino of this.#untold) this.tell(ino);
    this.#untold.clear();
  }

  #settleAll(): void {
    const closed = [...this.#closed];
    this.#closed.clear();
    for (const ino of closed)
      this.#settle(ino).then(
        () => this.#isSettled(ino),
        (error: Error) => this.#failed([ino], error),
      );
  }

  #isSettled(ino: number): void {
    this.#settled.add(ino);
    if (this.#settled.size === 1) this.#clock.soon(() => this.#tellAll());
  }

  #tellAll(): void {
    const closed = [...this.#settled].filter((ino) => !this.#handles.isOpen(ino));
    this.#settled.clear();
    try {
      for (const { link, inos } of byManager(closed, this.#links)) this.#send(link, inos);
    } catch (error) {
      this.#failed(closed, error as Error);
    }
  }

  #send(link: SlotLink, inos: readonly number[]): void {
    for (const ino of inos) this.#told.delete(ino);
    const told = link.call("closed", { mount: this.#mount, inos }).then(
      () => {
        this.#warned = false;
      },
      (error: Error) => this.#failed(inos, error),
    );
    for (const ino of inos) this.#telling.set(ino, told);
    void told.then(() => {
      for (const ino of inos) if (this.#telling.get(ino) === told) this.#telling.delete(ino);
    });
  }

  /** One line until something could be told. */
  #failed(inos: readonly number[], error: Error): void {
    for (const ino of inos) {
      this.#told.add(ino);
      this.#untold.add(ino);
    }
    if (this.#warned) return;
    this.#warned = true;
    this.#logger("warning", "a manager is told later of closed files", { reason: error.message });
  }
}
