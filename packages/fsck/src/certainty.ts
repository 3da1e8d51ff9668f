import { type Suspicion, suspicionKey } from "./problems.ts";

/** Suspicions that are followed up. */
const SUSPICIONS_MAX = 200_000;
/** Looks at what changes all the time. */
const LOOKS_MAX = 6;

/** Looks at something as a whole, and answers what looks wrong. `again`: only what these are about is of interest. */
export type Look = (again: readonly Suspicion[] | null) => Promise<Iterable<Suspicion>>;

export interface Judged {
  readonly certain: readonly Suspicion[];
  /** What changed each time it was looked at, or of which a part may still be on its way. */
  readonly unsettled: readonly Suspicion[];
  /** Whether there were more suspicions than are followed up. */
  readonly overflowed: boolean;
}

/** Looks, and again at what looked wrong, until it looks right or the same: files change while they are looked at. `settled`: resolves when
 * what was on its way has arrived, to whether it has; it is told what looks wrong. */
export async function judge(look: Look, settled: (suspicions: Iterable<Suspicion>) => Promise<boolean>): Promise<Judged> {
  const certain: Suspicion[] = [];
  let overflowed = false;
  let before = new Map<string, Suspicion>();
  for (const suspicion of await look(null)) {
    overflowed ||= before.size === SUSPICIONS_MAX;
    if (overflowed) break;
    before.set(suspicionKey(suspicion), suspicion);
  }
  for (let looks = 1; before.size > 0 && looks < LOOKS_MAX; looks++) {
    const isSettled = await settled(before.values());
    const left = new Map<string, Suspicion>();
    for (const suspicion of await look([...before.values()])) {
      const key = suspicionKey(suspicion);
      const seen = before.get(key);
      if (seen === undefined) continue;
      if (isSettled && seen.evidence === suspicion.evidence) certain.push(suspicion);
      else left.set(key, suspicion);
    }
    before = left;
  }
  return { certain, unsettled: [...before.values()], overflowed };
}
