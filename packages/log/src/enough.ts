import type { Clock } from "@dazzle/core";

/** Resolves when all have settled, or as soon as it is `enough` once `patienceMs` are over or all of `brisk` have settled. Rejects where one rejects. */
export function allOrEnough(
  clock: Clock,
  patienceMs: number,
  asked: readonly Promise<void>[],
  enough: () => boolean,
  brisk: readonly Promise<void>[] = asked,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let late = false;
    const check = () => {
      if (late && enough()) resolve();
    };
    const isLate = () => {
      late = true;
      check();
    };
    const timer = clock.after(patienceMs, isLate);
    Promise.all(brisk).then(isLate, reject);
    for (const one of asked) one.then(check, reject);
    Promise.all(asked).then(() => {
      timer.cancel();
      resolve();
    }, reject);
  });
}

/** Asks the first `count` of those there are, in place of each that fails the next one, and beside those that don't answer in `patienceMs`, which `slow` is told of, too.
 * Resolves once so many have answered, or nobody is left to ask: with the failures. */
export function askEnough(options: {
  readonly clock: Clock;
  readonly patienceMs: number;
  readonly count: number;
  readonly of: readonly number[];
  readonly ask: (one: number) => Promise<void>;
  readonly slow: (one: number) => void;
}): Promise<readonly unknown[]> {
  return new Promise((resolve) => {
    const left = [...options.of];
    const underWay = new Set<number>();
    const failures: unknown[] = [];
    let answered = 0;
    const askNext = () => {
      const one = left.shift();
      if (one === undefined) return;
      underWay.add(one);
      options.ask(one).then(
        () => {
          answered++;
          ended(one);
        },
        (error: unknown) => {
          failures.push(error);
          askNext();
          ended(one);
        },
      );
    };
    const ended = (one: number) => {
      underWay.delete(one);
      if (answered < options.count && underWay.size > 0) return;
      timer.cancel();
      resolve(failures);
    };
    const timer = options.clock.after(options.patienceMs, () => {
      for (const one of [...underWay]) {
        if (left.length === 0) return;
        options.slow(one);
        askNext();
      }
    });
    for (let asked = 0; asked < options.count; asked++) askNext();
  });
}
