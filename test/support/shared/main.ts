import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ok } from "../run.ts";
import { checkOneFilesystem } from "./one-filesystem.ts";
import { checkAppends, checkCreates, checkGit, checkSqlite } from "./together.ts";

const USAGE = `Usage: npm run shared -- [--seed N] [--steps N | --minutes M] [--together] MNT MNT…
Checks that mounts of one cluster behave as one filesystem: random operations, each on one of them, against a local directory.
  --seed N      the first seed (default 1); with --minutes, one seed after the other
  --steps N     operations of a seed (default 2,000)
  --minutes M   goes on for so long
  --together    also what is done from all mounts at the same time: appends, creates, SQLite, git
`;
const STEPS_A_LINE = 500;

async function main(): Promise<void> {
  const { values, positionals: mounts } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: "string" },
      steps: { type: "string" },
      minutes: { type: "string" },
      together: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true || mounts.length < 2) {
    process.stderr.write(USAGE);
    process.exitCode = values.help === true ? 0 : 2;
    return;
  }
  const stepsMax = Number(values.steps ?? 2_000);
  const endMs = performance.now() + Number(values.minutes ?? 0) * 60_000;
  let seed = Number(values.seed ?? 1);
  let steps = 0;
  do {
    steps += await oneSeed(mounts, seed, stepsMax);
    say(`seed ${seed}: every result as on one filesystem, the trees equal; ${steps} operations so far`);
    seed++;
  } while (performance.now() < endMs);
  if (values.together === true) await together(mounts, seed);
}

async function oneSeed(mounts: readonly string[], seed: number, stepsMax: number): Promise<number> {
  const reference = await mkdtemp(join(tmpdir(), "dazzle-reference-"));
  try {
    const goesOn = (made: number) => {
      if (made > 0 && made % STEPS_A_LINE === 0) say(`seed ${seed}: ${made} operations`);
      return made < stepsMax;
    };
    const made = await checkOneFilesystem({ mounts, reference, seed, goesOn });
    for (const mount of mounts) await ok("diff", ["-r", "--no-dereference", reference, join(mount, `shared-${seed}`)]);
    return made;
  } finally {
    await rm(reference, { recursive: true, force: true });
  }
}

async function together(mounts: readonly string[], number: number): Promise<void> {
  const folder = `together-${number}`;
  await checkAppends(mounts, folder);
  say("appends: no line lost or torn");
  await checkCreates(mounts, join(folder, "creates"), 200);
  say("creates in one directory: all there, everywhere");
  await checkSqlite(mounts, join(folder, "sqlite"), 30);
  say("SQLite: the database is whole, and every transaction in it");
  await checkGit(mounts, join(folder, "git"), 10);
  say("git: the repository is whole, and every commit in it");
  for (const mount of mounts.slice(1)) await ok("diff", ["-r", "--no-dereference", join(mounts[0] as string, folder), join(mount, folder)]);
  say("the trees are equal");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

await main();
