import { setTimeout as sleep } from "node:timers/promises";

const INTERVAL_MS = 200;

/** Asks until the answer is neither undefined nor false; at the deadline it throws with the last failure, or with what `waitingFor` says. */
export async function until<T>(
  waitingFor: string,
  deadlineMs: number,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const started = performance.now();
  for (;;) {
    let failure: unknown;
    try {
      const answer = await ask();
      if (answer !== undefined && answer !== false) return answer;
    } catch (error) {
      failure = error;
    }
    if (performance.now() - started > deadlineMs) {
      const last = failure instanceof Error ? `: ${failure.message}` : "";
      throw new Error(`${waitingFor}: not within ${deadlineMs} ms${last}`, { cause: failure });
    }
    await sleep(INTERVAL_MS);
  }
}
