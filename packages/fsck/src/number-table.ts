import { SLOTS } from "@dazzle/core";

/** What is kept of an index number, in words of 4 bytes. */
export const NUMBER = { state: 0, links: 1, names: 2, trace: 3, words: 4 } as const;
const PAGE_NUMBERS = 256;

/** 16 bytes for each index number, in pages of 256 numbers of a slot: so 4 KiB for each page of which any is in use. */
export class NumberTable {
  readonly #pages = new Map<number, Uint32Array>();

  /** Where the words of an index number are. */
  at(ino: number): readonly [words: Uint32Array, at: number] {
    const nth = Math.floor(ino / SLOTS);
    const page = Math.floor(nth / PAGE_NUMBERS) * SLOTS + (ino % SLOTS);
    let words = this.#pages.get(page);
    if (words === undefined) {
      words = new Uint32Array(NUMBER.words * PAGE_NUMBERS);
      this.#pages.set(page, words);
    }
    return [words, NUMBER.words * (nth % PAGE_NUMBERS)];
  }

  /** Of which anything is known. */
  *numbers(): Generator<readonly [ino: number, words: Uint32Array, at: number]> {
    for (const [page, words] of this.#pages) {
      const first = Math.floor(page / SLOTS) * PAGE_NUMBERS;
      for (let index = 0; index < PAGE_NUMBERS; index++)
        if (words[NUMBER.words * index + NUMBER.state] !== 0) yield [(first + index) * SLOTS + (page % SLOTS), words, NUMBER.words * index];
    }
  }
}
