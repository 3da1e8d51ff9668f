import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { Bench, progress } from "./bench.ts";
import { measureCleaner } from "./cleaner-bench.ts";
import { measureCleaningCost } from "./cleaning-cost.ts";
import { appends, randomReads, sequential, smallFiles } from "./data-phases.ts";
import { measureDeletion } from "./delete-bench.ts";
import { measureFailover } from "./failover-bench.ts";
import { manyFiles } from "./million-phase.ts";
import { type BenchOptions, parseOptions, USAGE } from "./options.ts";
import { measureRebuild } from "./rebuild-bench.ts";
import { markdown } from "./report.ts";
import { measureShared } from "./shared-bench.ts";

async function measure(options: BenchOptions): Promise<void> {
  const bench = await Bench.start(options);
  try {
    const share = await bench.share();
    const has = (phase: (typeof options.phases)[number]) => options.phases.includes(phase);
    if (has("write") || has("read")) await sequential(bench, { read: has("read") });
    if (has("small")) await smallFiles(bench);
    if (has("random")) await randomReads(bench);
    if (has("append")) await appends(bench);
    if (has("million")) await manyFiles(bench);
    const shares = [share, await bench.share()];
    const { mounts } = await bench.cluster.status();
    const engine = mounts[0]?.engine ?? "unknown";
    const machine = `${cpus().length} CPUs (${cpus()[0]?.model ?? "unknown"}), Node ${process.version}, FUSE engine ${engine}`;
    process.stdout.write(`${markdown(bench.figures)}\n`);
    process.stdout.write(`${options.nodes} nodes on one disk, ${options.rounds} rounds; ${machine}.\n`);
    process.stdout.write(`A spinning process got ${shares.map((each) => each.toFixed(2)).join(" … ")} of a CPU before and after.\n`);
    if (options.json !== undefined)
      writeFileSync(options.json, `${JSON.stringify({ options, machine, shares, figures: bench.figures }, null, 2)}\n`);
  } finally {
    await bench.workspace.close();
  }
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === undefined) process.stdout.write(USAGE);
  else if (options.cleaningCost) measureCleaningCost();
  else if (options.failover) await measureFailover(options);
  else if (options.cleaner) await measureCleaner(options);
  else if (options.delete) await measureDeletion(options);
  else if (options.rebuild) await measureRebuild(options);
  else await (options.shared ? measureShared(options) : measure(options));
} catch (error) {
  progress(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
