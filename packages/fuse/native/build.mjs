// Builds the addon with the C compiler and the headers that came with node. Without either the "node" engine serves: that is
// no failure of the build.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const native = dirname(fileURLToPath(import.meta.url));
const sources = ["device.c", "system.c"].map((name) => join(native, name));
const inputs = [...sources, join(native, "napi_values.h"), fileURLToPath(import.meta.url)];
const output = resolve(native, "../build/dazzle_fuse.node");
const headers = resolve(dirname(process.execPath), "../include/node");

if (process.platform !== "linux") skip("FUSE is Linux only");
const newestMs = Math.max(...inputs.map((path) => statSync(path).mtimeMs));
if (existsSync(output) && statSync(output).mtimeMs >= newestMs) process.exit(0);
if (!existsSync(join(headers, "node_api.h"))) skip(`no node headers in ${headers}`);

mkdirSync(dirname(output), { recursive: true });
// Built beside and renamed: a mount that has the old file loaded keeps it, and two builds at once do no harm.
const fresh = `${output}.${process.pid}`;
const flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-pthread", "-fvisibility=hidden", `-I${headers}`, "-o", fresh, ...sources];
const result = spawnSync(process.env.CC ?? "cc", flags, { encoding: "utf8" });
if (result.error !== undefined) skip("no C compiler (cc)");
if (result.status !== 0) {
  rmSync(fresh, { force: true });
  process.stderr.write(result.stderr);
  skip("the compiler failed, see above");
}
renameSync(fresh, output);
console.log(`fuse: built ${output}`);

function skip(reason) {
  console.log(`fuse: addon not built: ${reason}; mounts use the "node" engine`);
  process.exit(0);
}
