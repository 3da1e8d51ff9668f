import type { Clock } from "@dazzle/core";

/** Resolves when all have settled, or from `patienceMs` on as soon as it is `enough`. Rejects where one rejects. */
export function allOrEnough(clock: Clock, patienceMs: number, asked: readonly Promise<void>[], enough: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let late = false;
    const check = () => {
      if (late && enough()) resolve();
    };
    const timer = clock.after(patienceMs, () => {
      late = true;
      check();
    });
    for (const one of asked) one.then(check, reject);
    Promise.all(asked).then(() => {
      timer.cancel();
      resolve();
    }, reject);
  });
}
