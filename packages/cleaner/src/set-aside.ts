import type { StoredSegment } from "./survey.ts";

const DAMAGED_MS = 600_000;
/** What something passing was in the way of is tried again so soon, and twice as late each time that it still is. */
const RETRY_FIRST_MS = 5_000;
const RETRY_MAX_MS = 60_000;
/** What is there for so long though it should not be, is wrong: a large file that is being removed has let go of its blocks by then, and a slot that moves is counted once. */
const WRONG_AFTER_MS = 300_000;
/** In a full segment so much less must live before something can be won; it is looked at again after so long, as others may be there to be merged with it. */
const FULL_SHARE = 0.9;
const FULL_MS = 3_600_000;
/** Segments that are remembered, of each kind. */
const REMEMBERED_MAX = 65_536;

type Named = Pick<StoredSegment, "log" | "sequence"> | { readonly log: number; readonly sequence: number };

interface Skipped {
  readonly untilMs: number;
  /** 0 where it is damaged. */
  readonly retryMs: number;
}

interface Full {
  readonly untilMs: number;
  /** What lived in it. */
  readonly named: number;
}

interface Suspect {
  readonly sinceMs: number;
  /** Whether nothing is known against it but that it counted more than it has. */
  readonly isOvercounted: boolean;
  /** Whether it is certain that its count is wrong. */
  isWrong: boolean;
}

/** Segments of a group that its leader leaves alone: what is damaged, for a while; what can't be cleaned now, for a moment; what was cleaned, in which nothing should live any more; and what counts more live bytes than it has. Where
 * such a count stays, it is wrong, and moving what no file has would win nothing again and again. */
export class SetAside {
  readonly #skipped = new Map<string, Skipped>();
  readonly #suspects = new Map<string, Suspect>();
  readonly #full = new Map<string, Full>();

  /** Whose counts are wrong, as far as it is known. */
  get wrong(): number {
    let wrong = 0;
    for (const { isWrong } of this.#suspects.values()) if (isWrong) wrong++;
    return wrong;
  }

  has(segment: Named, nowMs: number): boolean {
    const name = nameOf(segment);
    return nowMs < (this.#skipped.get(name)?.untilMs ?? 0) || this.#suspects.has(name);
  }

  /** Whether a cleaner has found that nothing is to be won in it, and it still looks so. */
  isFull(segment: Named & Pick<StoredSegment, "named">, nowMs: number): boolean {
    const full = this.#full.get(nameOf(segment));
    return full !== undefined && nowMs < full.untilMs && segment.named > FULL_SHARE * full.named;
  }

  /** Whether that is all there is to know of it: `check` and `keepOnly` need not see it. */
  isOnlyFull(segment: StoredSegment, nowMs: number): boolean {
    return segment.named <= segment.bytes && this.isFull(segment, nowMs) && !this.has(segment, nowMs);
  }

  full(segments: Iterable<StoredSegment>, nowMs: number): void {
    for (const segment of segments) {
      if (this.#full.size >= REMEMBERED_MAX) this.#full.clear();
      this.#full.set(nameOf(segment), { untilMs: nowMs + FULL_MS, named: segment.named });
    }
  }

  /** When the first of those is tried again that are left alone for a moment only; infinite where there is none. */
  nextRetryMs(segments: Iterable<Named>, nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const segment of segments) {
      const { untilMs, retryMs } = this.#skipped.get(nameOf(segment)) ?? { untilMs: 0, retryMs: 0 };
      if (retryMs > 0 && nowMs < untilMs) nextMs = Math.min(nextMs, untilMs);
    }
    return nextMs;
  }

  /** They are damaged. */
  skip(segments: Iterable<Named>, nowMs: number): void {
    for (const segment of segments) this.#skip(nameOf(segment), { untilMs: nowMs + DAMAGED_MS, retryMs: 0 });
  }

  /** They could not be cleaned, for a reason that passes. */
  postpone(segments: Iterable<Named>, nowMs: number): void {
    for (const segment of segments) {
      const name = nameOf(segment);
      const before = this.#skipped.get(name)?.retryMs ?? 0;
      const retryMs = before === 0 ? RETRY_FIRST_MS : Math.min(RETRY_MAX_MS, 2 * before);
      this.#skip(name, { untilMs: nowMs + retryMs, retryMs });
    }
  }

  #skip(name: string, skipped: Skipped): void {
    if (this.#skipped.size >= REMEMBERED_MAX) this.#skipped.clear();
    this.#skipped.set(name, skipped);
  }

  /** Nothing lives in them any more. */
  cleaned(segments: Iterable<Named>, nowMs: number): void {
    for (const segment of segments) {
      const name = nameOf(segment);
      this.#skipped.delete(name);
      this.#suspect(name, { sinceMs: nowMs, isOvercounted: false, isWrong: false });
    }
  }

  #suspect(name: string, suspect: Suspect): void {
    if (this.#suspects.get(name)?.isOvercounted === suspect.isOvercounted) return;
    if (this.#suspects.size >= REMEMBERED_MAX) this.#suspects.clear();
    this.#suspects.set(name, suspect);
  }

  /** What a look has found: answers those of which it is certain now, each once, that their counts are wrong. */
  check(candidates: Iterable<StoredSegment>): StoredSegment[] {
    const found: StoredSegment[] = [];
    for (const segment of candidates) {
      const name = nameOf(segment);
      const suspect = this.#suspects.get(name);
      const isOvercounted = segment.named > segment.bytes;
      if (suspect === undefined) {
        if (isOvercounted) this.#suspect(name, { sinceMs: segment.seenMs, isOvercounted, isWrong: false });
      } else if (suspect.isOvercounted && !isOvercounted) {
        this.#suspects.delete(name);
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
