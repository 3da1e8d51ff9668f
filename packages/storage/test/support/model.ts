import { BLOCK_BYTES, blockChecksums, type Durability, type FragmentKey, isDazzleError, type ListedFragment } from "@dazzle/core";
import type { SeededRandom } from "@dazzle/sim";
import type { FragmentStore } from "../../src/index.ts";
import { type SimBench, SMALL_LIMITS } from "./bench.ts";
import { how, type Sample, sample } from "./fragments.ts";

interface Known {
  readonly sample: Sample;
  isDurable: boolean;
  /** `asked`: a delete was sent; `done`: it answered. */
  deleted: "no" | "asked" | "done";
}

const LOGS = [1, 2, 3];

/** What a store must hold, from what it answered. */
export class StoreModel {
  readonly #random: SeededRandom;
  readonly #known = new Map<string, Known>();
  readonly #tickets = new Map<string, Map<number, Known>>();
  readonly #nextSequence = new Map<number, number>(LOGS.map((log) => [log, 1]));
  readonly #trimmedTo = new Map<number, { asked: number; done: number }>(LOGS.map((log) => [log, { asked: 0, done: 0 }]));
  /** What was learned, to see that the test does something. */
  readonly counts = { stored: 0, durable: 0, deleted: 0, failed: 0, refused: 0, checked: 0 };

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** Stores something new, or something again. What it resolves with counts; a failure leaves everything open. */
  async store(store: FragmentStore): Promise<void> {
    const known = this.#random.chance(0.15) ? (this.#anyKnown() ?? this.#fresh()) : this.#fresh();
    const { header, arrived } = known.sample;
    const isTrimmed = header.sequence <= (this.#trimmedTo.get(header.log)?.done ?? 0);
    const wasDeleted = known.deleted;
    try {
      const reply = await store.store(arrived, how({ sync: this.#random.chance(0.3) }));
      if (isTrimmed && wasDeleted === "done") throw new Error(`${name(header)} came back though it was trimmed`);
      this.counts.stored++;
      const tickets = this.#tickets.get(reply.boot) ?? new Map<number, Known>();
      this.#tickets.set(reply.boot, tickets);
      if (reply.ticket === 0) this.#durable(known);
      else tickets.set(reply.ticket, known);
      this.#learn(reply);
    } catch (error) {
      this.#expect(error, "diskFailed", "noSpace", "invalid", "bootChanged");
    }
  }

  async sync(store: FragmentStore): Promise<void> {
    const tickets = [...(this.#tickets.get(store.boot)?.keys() ?? [])];
    if (tickets.length === 0) return;
    try {
      this.#learn(await store.sync(store.boot, this.#random.pick(tickets)));
    } catch (error) {
      this.#expect(error, "diskFailed", "bootChanged");
    }
  }

  async delete(store: FragmentStore): Promise<void> {
    const log = this.#random.pick(LOGS);
    const trimmed = this.#trimmedTo.get(log) as { asked: number; done: number };
    const trimmedTo = Math.max(trimmed.asked, this.#random.below(this.#nextSequence.get(log) as number));
    const sequences = Array.from({ length: trimmedTo }, (_, at) => at + 1).filter(() => this.#random.chance(0.7));
    const gone = [...this.#known.values()].filter(({ sample: { header } }) => header.log === log && sequences.includes(header.sequence));
    trimmed.asked = trimmedTo;
    for (const known of gone) if (known.deleted === "no") known.deleted = "asked";
    try {
      await store.delete({ log, sequences, trimmedTo, group: -1, groupVersion: -1 }, null);
      for (const known of gone) known.deleted = "done";
      this.counts.deleted += gone.length;
      trimmed.done = Math.max(trimmed.done, trimmedTo);
    } catch (error) {
      this.#expect(error, "diskFailed");
    }
  }

  /** Everything that was answered holds, and nothing is served that was not stored. */
  async check(bench: SimBench, at: string): Promise<void> {
    const held = new Map<string, ListedFragment>();
    for (const log of LOGS) {
      const page = await bench.run(bench.store.list(log, 0, 4_096));
      for (const fragment of page.fragments) held.set(name(fragment), fragment);
      const trimmed = this.#trimmedTo.get(log) as { asked: number; done: number };
      if (page.trimmedTo < trimmed.done || page.trimmedTo > trimmed.asked)
        throw new Error(`${at}: log ${log} is trimmed to ${page.trimmedTo}`);
    }
    for (const [key, known] of this.#known) {
      if (known.isDurable && known.deleted === "no" && !held.has(key)) throw new Error(`${at}: ${key} was durable and is gone`);
      if (known.deleted === "done" && held.has(key)) throw new Error(`${at}: ${key} was deleted and is back`);
    }
    for (const key of held.keys()) await this.#checkServed(bench, key, at);
    const { fragments, bytesUsed } = bench.store.stat();
    if (fragments !== held.size || (fragments === 0) !== (bytesUsed === 0))
      throw new Error(`${at}: ${fragments} fragments are counted, ${held.size} listed`);
  }

  async #checkServed(bench: SimBench, key: string, at: string): Promise<void> {
    const known = this.#known.get(key);
    if (known === undefined) throw new Error(`${at}: ${key} was never stored`);
    const { header, data } = known.sample;
    const { tail } = await bench.run(bench.store.read({ ...header, offset: 0, length: data.length }));
    const sums = Buffer.from(blockChecksums(header.log, header.sequence, data).buffer);
    if (!data.equals(tail[1] as Uint8Array) || !sums.equals(tail[0] as Uint8Array))
      throw new Error(`${at}: ${key} is served with other bytes`);
    this.counts.checked++;
  }

  /** After a restart: deletes that had not answered happened or not; both are right from now on. */
  async settle(bench: SimBench): Promise<void> {
    for (const log of LOGS) {
      const page = await bench.run(bench.store.list(log, 0, 4_096));
      this.#trimmedTo.set(log, { asked: page.trimmedTo, done: page.trimmedTo });
      const held = new Set(page.fragments.map(name));
      for (const [key, known] of this.#known) {
        if (known.sample.header.log !== log || known.deleted === "done") continue;
        if (held.has(key)) this.#durable(known);
        else if (known.deleted === "asked" && known.sample.header.sequence <= page.trimmedTo) known.deleted = "done";
        else if (known.isDurable) throw new Error(`${key} was deleted, and what it was trimmed to is lost`);
        if (known.deleted === "asked") known.deleted = "no";
      }
    }
  }

  #fresh(): Known {
    const log = this.#random.pick(LOGS);
    const sequence = this.#nextSequence.get(log) as number;
    this.#nextSequence.set(log, sequence + 1);
    const payloadBytes = this.#random.chance(0.7)
      ? 1 + this.#random.below(2 * BLOCK_BYTES)
      : 1 + this.#random.below(SMALL_LIMITS.volumeBytes);
    const made = sample(this.#random, { log, sequence, index: this.#random.below(2), payloadBytes });
    const known: Known = { sample: made, isDurable: false, deleted: "no" };
    this.#known.set(name(made.header), known);
    return known;
  }

  #anyKnown(): Known | undefined {
    return this.#known.size === 0 ? undefined : this.#random.pick([...this.#known.values()]);
  }

  #learn({ boot, durable }: Durability): void {
    for (const [ticket, known] of this.#tickets.get(boot) ?? []) if (ticket <= durable) this.#durable(known);
  }

  #durable(known: Known): void {
    if (!known.isDurable) this.counts.durable++;
    known.isDurable = true;
  }

  #expect(error: unknown, ...codes: Parameters<typeof isDazzleError>[1][]): void {
    if (!isDazzleError(error, ...codes)) throw error;
    if (error.code === "invalid") this.counts.refused++;
    else this.counts.failed++;
  }
}

function name(key: FragmentKey): string {
  return `${key.log}/${key.sequence}/${key.index}`;
}
