import { isDazzleError, type Logger } from "@dazzle/core";
import { byManager, type SlotLink } from "./slot-link.ts";

const BATCH = 1_000;
/** Of those beyond, a manager that did not hear it asks when somebody wants them. */
const UNANSWERED_MAX = 8_000;

/** Gives the tokens of evicted nodes back, many at once. */
export class Releases {
  readonly #mount: number;
  readonly #links: (ino: number) => SlotLink;
  readonly #logger: Logger;
  #inos: number[] = [];
  /** Their managers may not have heard it. */
  #unanswered: number[] = [];

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

  /** What was not answered is sent once more, with the others. To be called now and then. */
  again(): void {
    this.#inos.push(...this.#unanswered);
    this.#unanswered = [];
  }

  /** Sends those that have not come back. Answers which. */
  send(isBack: (ino: number) => boolean): readonly number[] {
    if (this.#inos.length === 0) return this.#inos;
    const released = this.#inos.filter((ino) => !isBack(ino));
    this.#inos = [];
    for (const { link, inos } of byManager(released, this.#links)) {
      // Once: what has come back by the time it is said again must be left out then.
      link.callOnce("release", { mount: this.#mount, inos }).catch((error: Error) => {
        if (isDazzleError(error) && error.retry !== "never")
          this.#unanswered.push(...inos.slice(0, UNANSWERED_MAX - this.#unanswered.length));
        else this.#logger("warning", "tokens could not be given back", { reason: error.message });
      });
    }
    return released;
  }
}
