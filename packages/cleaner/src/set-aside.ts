import type { StoredSegment } from "./survey.ts";

const SKIPPED_MS = 600_000;
/** What is there for so long though it should not be, is wrong: a large file that is being removed has let go of its blocks by then, and a slot that moves is counted once. */
const WRONG_AFTER_MS = 300_000;
/** Segments that are remembered, of each kind. */
const REMEMBERED_MAX = 65_536;

type Named = Pick<StoredSegment, "log" | "sequence"> | { readonly log: number; readonly sequence: number };

interface Suspect {
  readonly sinceMs: number;
  /** Whether it is certain that its count is wrong. */
  isWrong: boolean;
}

/** Segments of a group that its leader leaves alone: what could not be cleaned, for a while; what was cleaned, in which nothing should live any more; and what counts more live bytes than it has. Where
 * such a count stays, it is wrong, and moving what no file has would win nothing again and again. */
export class SetAside {
  /** Until when. */
  readonly #skipped = new Map<string, number>();
  readonly #suspects = new Map<string, Suspect>();

  /** Whose counts are wrong, as far as it is known. */
  get wrong(): number {
    let wrong = 0;
    for (const { isWrong } of this.#suspects.values()) if (isWrong) wrong++;
    return wrong;
  }

  has(segment: Named, nowMs: number): boolean {
    const name = nameOf(segment);
    return nowMs < (this.#skipped.get(name) ?? 0) || this.#suspects.has(name);
  }

  /** They could not be cleaned. */
  skip(segments: Iterable<Named>, nowMs: number): void {
    if (this.#skipped.size >= REMEMBERED_MAX) this.#skipped.clear();
    for (const segment of segments) this.#skipped.set(nameOf(segment), nowMs + SKIPPED_MS);
  }

  /** Nothing lives in them any more. */
  cleaned(segments: Iterable<Named>, nowMs: number): void {
    for (const segment of segments) this.#suspect(nameOf(segment), nowMs);
  }

  #suspect(name: string, sinceMs: number): void {
    if (this.#suspects.has(name)) return;
    if (this.#suspects.size >= REMEMBERED_MAX) this.#suspects.clear();
    this.#suspects.set(name, { sinceMs, isWrong: false });
  }

  /** What a look has found: answers those of which it is certain now, each once, that their counts are wrong. */
  check(candidates: Iterable<StoredSegment>): StoredSegment[] {
    const found: StoredSegment[] = [];
    for (const segment of candidates) {
      const name = nameOf(segment);
      const suspect = this.#suspects.get(name);
      if (suspect === undefined) {
        if (segment.live > segment.bytes) this.#suspect(name, segment.seenMs);
      } else if (!suspect.isWrong && segment.seenMs - suspect.sinceMs >= WRONG_AFTER_MS) {
        suspect.isWrong = true;
        found.push(segment);
      }
    }
    return found;
  }

  /** Everything was looked at since `beganMs`: what was not found is gone, or counted right. */
  keepOnly(candidates: Iterable<StoredSegment>, beganMs: number): void {
    const seen = new Set<string>();
    for (const segment of candidates) {
      const name = nameOf(segment);
      if (this.#suspects.has(name)) seen.add(name);
    }
    for (const [name, { sinceMs }] of this.#suspects) if (sinceMs < beganMs && !seen.has(name)) this.#suspects.delete(name);
  }
}

function nameOf({ log, sequence }: Named): string {
  return `${log}/${sequence}`;
}
