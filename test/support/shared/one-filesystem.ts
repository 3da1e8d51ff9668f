import { mkdir } from "node:fs/promises";
import { randomFrom } from "../operations.ts";
import { identity, outcomeOf, same, shown } from "./calls.ts";
import { type Root, Steps } from "./steps.ts";

const RECENT = 30;

/** Random operations, each on one of the mounts and on a local directory: every result must be the same, and afterwards all mounts must
 * tell the same of what was touched. Throws with the seed and the last steps where they don't. Answers how many steps were made. */
export async function checkOneFilesystem(options: {
  readonly mounts: readonly string[];
  /** An empty directory of a local filesystem: what one filesystem would do. */
  readonly reference: string;
  readonly seed: number;
  /** Asked before each step, with the steps so far. */
  readonly goesOn: (steps: number) => boolean;
}): Promise<number> {
  const { mounts, reference, seed } = options;
  const random = randomFrom(seed);
  const steps = new Steps(random);
  const folder = `shared-${seed}`;
  await mkdir(`${mounts[0]}/${folder}`);
  const roots = mounts.map((mount): Root => ({ path: `${mount}/${folder}`, open: new Map() }));
  const model: Root = { path: reference, open: new Map() };
  const recent: string[] = [];
  let count = 0;
  const wrong = (what: string) => new Error(`seed ${seed}, step ${count}: ${what}\nthe last steps:\n${recent.join("\n")}`);
  try {
    for (; options.goesOn(count); count++) {
      const step = steps.next();
      // An open file is used where it was opened.
      const opened = /open file (\d+)|close (\d+)/.exec(step.text);
      const number = Number(opened?.[1] ?? opened?.[2] ?? 0);
      const holder = roots.findIndex(({ open }) => open.has(number));
      const place = holder >= 0 ? holder : random(roots.length);
      recent.push(`mount ${place}: ${step.text}`);
      if (recent.length > RECENT) recent.shift();
      const expected = await outcomeOf(step.text, () => step.run(model));
      const seen = await outcomeOf(step.text, () => step.run(roots[place] as Root));
      if (!same(expected, seen)) throw wrong(`mount ${place} answers ${shown(seen)}, and one filesystem ${shown(expected)}`);
      for (const name of step.touched) {
        const views = await Promise.all(roots.map(({ path }) => outcomeOf(`stat ${name}`, () => identity(`${path}/${name}`))));
        const differs = views.findIndex((view) => !same(view, views[0] as never));
        if (differs >= 0)
          throw wrong(`of ${name} mount ${differs} tells ${shown(views[differs] as never)}, mount 0 ${shown(views[0] as never)}`);
      }
    }
    return count;
  } finally {
    for (const { open } of [...roots, model]) for (const handle of open.values()) await handle.close().catch(() => {});
  }
}
