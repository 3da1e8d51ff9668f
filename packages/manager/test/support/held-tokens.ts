import { covers, type MessageName, type RegionRange, type Reply, type Request, slotOf, unpackEntries, WHOLE_FILE } from "@dazzle/core";

/** What a test's mount holds, as far as managers' answers told it, for the claims that new managers wait for. */
export class HeldTokens {
  readonly #exclusive = new Map<number, boolean>();
  readonly #ranges = new Map<number, RegionRange>();
  readonly #numbers: Array<readonly [number, number]> = [];

  /** Takes what an answer brought. */
  note(name: MessageName, request: object, reply: object, tail: readonly Uint8Array[]): void {
    if (name === "acquire") this.#exclusive.set((request as Request<"acquire">).ino, (reply as Reply<"acquire">).exclusive);
    if (name === "acquireRange") this.#range((request as Request<"acquireRange">).ino, reply as Reply<"acquireRange">);
    if (name === "numbers") this.#numbers.push([(reply as Reply<"numbers">).first, (reply as Reply<"numbers">).count]);
    if (name === "release") for (const ino of (request as Request<"release">).inos) this.#exclusive.delete(ino);
    if (name === "lookup" && tail.length > 0) this.#exclusive.set((reply as Reply<"lookup">).child, (reply as Reply<"lookup">).exclusive);
    if (name !== "entries") return;
    for (const { child, inode } of unpackEntries(Buffer.concat(tail)))
      if (inode !== undefined) this.#exclusive.set(child, (reply as Reply<"entries">).exclusive);
  }

  /** All of it is the exclusive token, an empty one is none. */
  #range(ino: number, { from, to }: RegionRange): void {
    this.#ranges.delete(ino);
    this.#exclusive.delete(ino);
    if (covers({ from, to }, WHOLE_FILE)) this.#exclusive.set(ino, true);
    else if (from < to) this.#ranges.set(ino, { from, to });
  }

  revoked(ino: number, keepShared: boolean, kept: RegionRange): void {
    this.#range(ino, kept);
    if (keepShared) this.#exclusive.set(ino, false);
  }

  /** What is claimed at a slot's new manager. */
  of(slot: number): Pick<Request<"claims">, "exclusive" | "shared" | "ranges" | "opens" | "numbers"> {
    const inos = [...this.#exclusive].filter(([ino]) => slotOf(ino) === slot);
    return {
      exclusive: inos.filter(([, exclusive]) => exclusive).map(([ino]) => ino),
      shared: inos.filter(([, exclusive]) => !exclusive).map(([ino]) => ino),
      ranges: [...this.#ranges].filter(([ino]) => slotOf(ino) === slot).flatMap(([ino, { from, to }]) => [ino, from, to]),
      opens: [],
      numbers: this.#numbers.filter(([first]) => slotOf(first) === slot).flat(),
    };
  }
}
