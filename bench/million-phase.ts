import { residentBytes } from "../test/support/workspace.ts";
import { type Bench, progress } from "./bench.ts";

const FOLDERS = 1_000;

/** Many files: what memory they take, and how long a start takes after a clean stop and after a power cut. */
export async function manyFiles(bench: Bench): Promise<void> {
  const files = Math.round(1_000_000 / bench.options.divisor);
  const { cluster } = bench;
  const folder = bench.directory("dazzle", "many");
  const created = await bench.clocked(() => bench.loop("create", folder, FOLDERS, files, 0));
  await cluster.sync();
  const memory = new Peak();
  await memory.note(bench, "created");
  await cluster.down();
  await cluster.up();
  const cleanSeconds = cluster.usableAfterMs / 1_000;
  progress(`usable ${cleanSeconds.toFixed(1)} s after a clean stop`);
  const listed = await bench.clocked(() => bench.loop("list", folder));
  if (listed.result.done !== files + FOLDERS) throw new Error(`${listed.result.done} names of ${files + FOLDERS} were listed`);
  await memory.note(bench, "listed");
  await bench.loop("create", bench.directory("dazzle", "unsettled"), 10, 1_000, 4096);
  await cluster.killAll();
  await cluster.clearMountpoint();
  await cluster.up();
  const cutSeconds = cluster.usableAfterMs / 1_000;
  progress(`usable ${cutSeconds.toFixed(1)} s after every process was killed`);
  const count = files.toLocaleString("en");
  const rate = files / created.result.seconds;
  bench.figure({ workload: `${count} empty files`, unit: "files/s", better: "more", dazzle: [rate], processorTime: created.processorTime });
  const listRate = listed.result.done / listed.result.seconds;
  bench.figure({
    workload: "… listed with attributes, cold",
    unit: "names/s",
    better: "more",
    dazzle: [listRate],
    processorTime: listed.processorTime,
  });
  for (const [name, bytes] of memory.bytes) {
    bench.figure({ workload: `… memory of ${name}`, unit: "MB", better: "less", dazzle: [bytes / 1e6], goal: 500 });
  }
  bench.figure({ workload: "… usable after a clean stop", unit: "s", better: "less", dazzle: [cleanSeconds], goal: 5 });
  bench.figure({ workload: "… usable after SIGKILL of all", unit: "s", better: "less", dazzle: [cutSeconds], goal: 15 });
}

/** The most that each process had resident. */
class Peak {
  readonly bytes = new Map<string, number>();

  async note(bench: Bench, when: string): Promise<void> {
    const { members, mounts } = await bench.cluster.status();
    const pids: [string, number][] = mounts.map(({ pid }) => ["mount", pid]);
    for (const { name, pid } of members) if (pid) pids.push([name, pid]);
    for (const [name, pid] of pids) {
      const bytes = residentBytes(pid);
      progress(`${when}: ${name} has ${Math.round(bytes / 1e6)} MB`);
      this.bytes.set(name, Math.max(bytes, this.bytes.get(name) ?? 0));
    }
  }
}
