import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { dropCaches } from "../test/support/cluster.ts";
import { ok } from "../test/support/run.ts";
import { type Bench, progress } from "./bench.ts";
import type { ProcessorTime } from "./processor-time.ts";

const MIB = 1024 * 1024;

/** Sequential write with a final fsync, and the same read cold: every daemon restarted, the page cache dropped. */
export async function sequential(bench: Bench, phases: { readonly read: boolean }): Promise<void> {
  const mib = Math.round(1024 / bench.options.divisor);
  const rates = { write: [] as number[], localWrite: [] as number[], read: [] as number[], localRead: [] as number[] };
  let writeTime: ProcessorTime = {};
  let readTime: ProcessorTime = {};
  for (let round = 0; round < bench.options.rounds; round++) {
    const [file, local] = [bench.cluster.path(`sequential-${round}`), join(bench.localDirectory, "sequential")];
    rates.localWrite.push(rate(await bench.loop("write", local, mib)));
    const written = await bench.clocked(() => bench.loop("write", file, mib));
    rates.write.push(rate(written.result));
    writeTime = written.processorTime;
    progress(`write ${rates.write.at(-1)?.toFixed(0)} MB/s, local ${rates.localWrite.at(-1)?.toFixed(0)}`);
    if (phases.read) {
      await bench.cluster.restartCold();
      const read = await bench.clocked(() => bench.loop("read", file));
      readTime = read.processorTime;
      rates.read.push(rate(read.result));
      await dropCaches();
      rates.localRead.push(rate(await bench.loop("read", local)));
      progress(`cold read ${rates.read.at(-1)?.toFixed(0)} MB/s, local ${rates.localRead.at(-1)?.toFixed(0)}`);
    }
    rmSync(file);
    rmSync(local);
  }
  const row = { unit: "MB/s", better: "more", bytes: mib * MIB } as const;
  const size = `${mib} MiB`;
  bench.figure({
    ...row,
    workload: `write ${size}, fsync`,
    dazzle: rates.write,
    local: rates.localWrite,
    goal: 400,
    peer: 386,
    processorTime: writeTime,
  });
  if (!phases.read) return;
  bench.figure({
    ...row,
    workload: `read ${size}, cold`,
    dazzle: rates.read,
    local: rates.localRead,
    goal: 600,
    peer: 603,
    processorTime: readTime,
  });
}

/** Small files: the clock stops when all of it is durable. */
export async function smallFiles(bench: Bench): Promise<void> {
  const files = Math.round(50_000 / bench.options.divisor);
  const rates = { dazzle: [] as number[], local: [] as number[] };
  let processorTime: ProcessorTime = {};
  for (let round = 0; round < bench.options.rounds; round++) {
    const [folder, local] = [bench.directory("dazzle", `small-${round}`), bench.directory("local", `small-${round}`)];
    rates.local.push(
      files /
        (await seconds(
          async () => void (await bench.loop("create", local, 50, files, 4096)),
          () => ok("sync", ["-f", local]),
        )),
    );
    const clocked = await bench.clocked(() =>
      seconds(
        async () => void (await bench.loop("create", folder, 50, files, 4096)),
        () => bench.cluster.sync(),
      ),
    );
    rates.dazzle.push(files / clocked.result);
    processorTime = clocked.processorTime;
    progress(`small files ${rates.dazzle.at(-1)?.toFixed(0)}/s, local ${rates.local.at(-1)?.toFixed(0)}/s`);
    await ok("rm", ["-rf", folder, local], { timeoutMs: 600_000 });
  }
  const workload = `${files} files of 4 KiB, sync`;
  bench.figure({ workload, unit: "files/s", better: "more", ...rates, goal: 8_000, peer: 819, processorTime, bytes: files * 4096 });
}

/** Random reads over four times the client's cache. The mount's caches are cold, those of the servers warm. */
export async function randomReads(bench: Bench): Promise<void> {
  const mib = 256;
  const reads = Math.round((mib * 256) / bench.options.divisor);
  const [file, local] = [bench.cluster.path("random"), join(bench.localDirectory, "random")];
  await bench.loop("write", file, mib);
  await bench.loop("write", local, mib);
  const rates = { dazzle: [] as number[], local: [] as number[] };
  let processorTime: ProcessorTime = {};
  for (let round = 0; round < bench.options.rounds; round++) {
    await bench.cluster.remountCold();
    await warm(join(bench.cluster.directory, "nodes"));
    const clocked = await bench.clocked(() => bench.loop("random", file, 16, reads));
    rates.dazzle.push(clocked.result.done / clocked.result.seconds);
    processorTime = clocked.processorTime;
    await dropCaches();
    const { done, seconds: took } = await bench.loop("random", local, 16, reads);
    rates.local.push(done / took);
    progress(`random reads ${rates.dazzle.at(-1)?.toFixed(0)}/s, local disk, cold, ${rates.local.at(-1)?.toFixed(0)}/s`);
  }
  bench.figure({
    workload: "4 KiB random reads, 16 at once",
    unit: "reads/s",
    better: "more",
    ...rates,
    goal: 20_000,
    peer: 9_027,
    processorTime,
    bytes: reads * 4096,
  });
  rmSync(file);
}

/** Small appends with an fsync each, alone and beside a stream. */
export async function appends(bench: Bench): Promise<void> {
  const count = Math.round(5_000 / bench.options.divisor);
  const [folder, local] = [bench.directory("dazzle", "append"), bench.directory("local", "append")];
  const localAlone = await bench.append(join(local, "alone"), count);
  const alone = await bench.clocked(() => bench.append(join(folder, "alone"), count));
  progress(
    `append: median ${alone.result.medianMs.toFixed(2)} ms, 99% ${alone.result.p99Ms.toFixed(2)} ms, longest ${alone.result.maxMs.toFixed(1)} ms`,
  );
  const streamed = Math.max(20, Math.round(count / 10));
  const localBeside = await bench.beside(join(local, "stream"), 512, () => bench.append(join(local, "beside"), streamed));
  const beside = await bench.clocked(() => bench.beside(join(folder, "stream"), 512, () => bench.append(join(folder, "beside"), streamed)));
  progress(`beside a stream: median ${beside.result.medianMs.toFixed(2)} ms, 99% ${beside.result.p99Ms.toFixed(2)} ms`);
  const row = { unit: "ms", better: "less" } as const;
  const { processorTime } = alone;
  bench.figure({
    ...row,
    workload: "4 KiB append and fsync, median",
    dazzle: [alone.result.medianMs],
    local: [localAlone.medianMs],
    goal: 1,
    peer: 0.75,
    processorTime,
  });
  bench.figure({ ...row, workload: "… 99%", dazzle: [alone.result.p99Ms], local: [localAlone.p99Ms], goal: 15 });
  bench.figure({ ...row, workload: "… longest", dazzle: [alone.result.maxMs], local: [localAlone.maxMs] });
  const besideTime = beside.processorTime;
  bench.figure({
    ...row,
    workload: "… beside a stream, median",
    dazzle: [beside.result.medianMs],
    local: [localBeside.medianMs],
    goal: 50,
    processorTime: besideTime,
  });
  bench.figure({ ...row, workload: "… beside a stream, 99%", dazzle: [beside.result.p99Ms], local: [localBeside.p99Ms] });
  await ok("rm", ["-rf", folder, local]);
}

function rate({ done, seconds: took }: { done: number; seconds: number }): number {
  return done / 1e6 / took;
}

async function seconds(...steps: (() => Promise<unknown>)[]): Promise<number> {
  const started = performance.now();
  for (const step of steps) await step();
  return (performance.now() - started) / 1_000;
}

async function warm(directory: string): Promise<void> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const entry of files) await ok("cat", [join(entry.parentPath, entry.name)], { output: "ignore" });
}
