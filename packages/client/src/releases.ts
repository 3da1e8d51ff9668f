import type { Logger } from "@dazzle/core";
import { byManager, type SlotLink } from "./slot-link.ts";

const BATCH = 1_000;

/** Gives the tokens of evicted nodes back, many at once. */
export class Releases {
  readonly #mount: number;
  readonly #links: (ino: number) => SlotLink;
  readonly #logger: Logger;
  #inos: number[] = [];

  constructor(options: { mount: number; links: (ino: number) => SlotLink; logger: Logger }) {
    this.#mount = options.mount;
    this.#links = options.links;
    this.#logger = options.logger;
  }

  get isFull(): boolean {
    return this.#inos.length >= BATCH;
  }

  add(ino: number): void {
    this.#inos.push(ino);
  }

  /** Sends those that have not come back. Answers which. */
  send(isBack: (ino: number) => boolean): readonly number[] {
    if (this.#inos.length === 0) return this.#inos;
    const released = this.#inos.filter((ino) => !isBack(ino));
    this.#inos = [];
    for (const { link, inos } of byManager(released, this.#links)) {
      // Once: where it is lost the manager asks for them when somebody wants them. Later it might take what was granted since.
      link.callOnce("release", { mount: this.#mount, inos }).catch((error: Error) => {
        this.#logger("warning", "tokens could not be given back", { reason: error.message });
      });
    }
    return released;
  }
}
