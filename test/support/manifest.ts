import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { script } from "./script.ts";

/** Path (latin1, relative) to a line that tells all that must survive: type, mode, owner, links, times, size, content. */
export type Manifest = Record<string, string>;

/** Reads a tree in a process of its own: should the filesystem hang, the test does not. */
export async function manifestOf(root: string, timeoutMs = 300_000): Promise<Manifest> {
  return JSON.parse(await script(import.meta.filename, [root], { timeoutMs })) as Manifest;
}

function readManifest(root: Buffer, relative: Buffer, into: Manifest): void {
  const path = relative.length === 0 ? root : Buffer.concat([root, Buffer.from("/"), relative]);
  const status = lstatSync(path, { bigint: true });
  const kind = Number(status.mode) & 0o170000;
  let content = "";
  if (kind === 0o100000) content = createHash("sha256").update(readFileSync(path)).digest("hex");
  if (kind === 0o120000) content = readlinkSync(path, { encoding: "buffer" }).toString("latin1");
  const size = kind === 0o040000 ? "" : status.size;
  const fields = [status.mode.toString(8), status.uid, status.gid, status.nlink, status.mtimeNs, size, content];
  into[relative.toString("latin1")] = fields.join(" ");
  if (kind !== 0o040000) return;
  for (const name of readdirSync(path, { encoding: "buffer" })) {
    readManifest(root, relative.length === 0 ? name : Buffer.concat([relative, Buffer.from("/"), name]), into);
  }
}

if (process.argv[1] === import.meta.filename) {
  const manifest: Manifest = {};
  readManifest(Buffer.from(process.argv[2] ?? "", "latin1"), Buffer.alloc(0), manifest);
  process.stdout.write(JSON.stringify(manifest));
}
