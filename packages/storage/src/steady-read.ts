import { type Clock, isDazzleError, sleep } from "@dazzle/core";

/** A disk that fails a read may do better a moment later: what is left unread after the last pause is damaged. */
const PAUSES_MS = [20, 200];

/** What `read` answers, tried again where the disk failed; `first` is its first answer. */
export async function readSteadily<T>(clock: Clock, read: () => T | Promise<T>, first: T | Promise<T> = read()): Promise<T> {
  let reading = first;
  for (const pauseMs of PAUSES_MS) {
    try {
      return await reading;
    } catch (error) {
      if (!isDazzleError(error, "diskFailed")) throw error;
    }
    await sleep(clock, pauseMs);
    reading = read();
  }
  return reading;
}
