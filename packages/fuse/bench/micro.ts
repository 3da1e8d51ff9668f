// How fast the kernel side is over a filesystem in memory: npx tsx --conditions=dazzle-source packages/fuse/bench/micro.ts [addon|node]
import { spawn } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EngineKind, mountFileSystem } from "../src/index.ts";
import { MemoryFileSystem } from "../test/support/memory-file-system.ts";

const WORKLOAD = `
const fs = require("node:fs"), root = process.argv[1], rate = (n, t) => (n / ((performance.now() - t) / 1000)).toFixed(0);
const N = 20000, out = {};
fs.mkdirSync(root + "/d");
let t = performance.now();
for (let i = 0; i < N; i++) fs.closeSync(fs.openSync(root + "/d/" + i, "wx"));
out["create/s"] = rate(N, t);
t = performance.now();
for (let i = 0; i < N; i++) fs.statSync(root + "/d/" + i);
out["stat/s"] = rate(N, t);
const chunk = Buffer.alloc(1 << 20, 1), file = root + "/big", M = 512;
let fd = fs.openSync(file, "w");
t = performance.now();
for (let i = 0; i < M; i++) fs.writeSync(fd, chunk, 0, chunk.length, (i % 64) << 20);
out["write 1M MB/s"] = rate(M, t);
t = performance.now();
for (let i = 0; i < 40000; i++) fs.writeSync(fd, chunk, 0, 4096, (i % 4096) * 4096);
out["write 4K/s"] = rate(40000, t);
fs.closeSync(fd);
const O_DIRECT = 0o40000;
fd = fs.openSync(file, fs.constants.O_RDONLY | O_DIRECT);
const { buffer } = new WebAssembly.Memory({ initial: 32 }), aligned = Buffer.from(buffer, 0, 1 << 20);
t = performance.now();
for (let i = 0; i < M; i++) fs.readSync(fd, aligned, 0, 1 << 20, (i % 64) << 20);
out["read 1M MB/s"] = rate(M, t);
t = performance.now();
for (let i = 0; i < 40000; i++) fs.readSync(fd, aligned, 0, 4096, ((i * 7919) % 16384) * 4096);
out["read 4K/s"] = rate(40000, t);
fs.closeSync(fd);
t = performance.now();
out["readdir entries/s"] = (fs.readdirSync(root + "/d").length / ((performance.now() - t) / 1000)).toFixed(0);
t = performance.now();
for (let i = 0; i < N; i++) fs.unlinkSync(root + "/d/" + i);
out["unlink/s"] = rate(N, t);
console.log(JSON.stringify(out));
`;

const wanted = process.argv.slice(2) as EngineKind[];
for (const engine of wanted.length > 0 ? wanted : (["addon", "node"] as const)) {
  const mountpoint = mkdtempSync(join(tmpdir(), "dazzle-fuse-bench-"));
  const fileSystem = new MemoryFileSystem();
  // Every stat asks once: no name of a file is answered from the kernel's cache; the path to it is.
  fileSystem.validMs = 60_000;
  fileSystem.fileNameValidMs = 0;
  const mount = await mountFileSystem(fileSystem, { mountpoint, engine });
  const cpu = process.cpuUsage();
  const child = spawn(process.execPath, ["-e", WORKLOAD, mountpoint], { stdio: "inherit" });
  await new Promise((resolve) => child.on("close", resolve));
  const used = process.cpuUsage(cpu);
  console.log(`${mount.engine}: ${((used.user + used.system) / 1e6).toFixed(1)} s of CPU`, JSON.stringify(mount.counters.requests));
  await mount.unmount();
  rmdirSync(mountpoint);
}
