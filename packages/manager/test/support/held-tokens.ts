import { type MessageName, type Reply, type Request, slotOf, unpackEntries } from "@dazzle/core";

/** What a test's mount holds, as far as managers' answers told it, for the claims that new managers wait for. */
export class HeldTokens {
  readonly #exclusive = new Map<number, boolean>();
  readonly #numbers: Array<readonly [number, number]> = [];

  /** Takes what an answer brought. */
  note(name: MessageName, request: object, reply: object, tail: readonly Uint8Array[]): void {
    if (name === "acquire") this.#exclusive.set((request as Request<"acquire">).ino, (reply as Reply<"acquire">).exclusive);
    if (name === "numbers") this.#numbers.push([(reply as Reply<"numbers">).first, (reply as Reply<"numbers">).count]);
    if (name === "release") for (const ino of (request as Request<"release">).inos) this.#exclusive.delete(ino);
    if (name === "lookup" && tail.length > 0) this.#exclusive.set((reply as Reply<"lookup">).child, (reply as Reply<"lookup">).exclusive);
    if (name !== "entries") return;
    for (const { child, inode } of unpackEntries(Buffer.concat(tail)))
      if (inode !== undefined) this.#exclusive.set(child, (reply as Reply<"entries">).exclusive);
  }

  revoked(ino: number, keepShared: boolean): void {
    if (keepShared) this.#exclusive.set(ino, false);
    else this.#exclusive.delete(ino);
  }

  /** What is claimed at a slot's new manager. */
  of(slot: number): Pick<Request<"claims">, "exclusive" | "shared" | "opens" | "numbers"> {
    const inos = [...this.#exclusive].filter(([ino]) => slotOf(ino) === slot);
    return {
      exclusive: inos.filter(([, exclusive]) => exclusive).map(([ino]) => ino),
      shared: inos.filter(([, exclusive]) => !exclusive).map(([ino]) => ino),
      opens: [],
      numbers: this.#numbers.filter(([first]) => slotOf(first) === slot).flat(),
    };
  }
}
