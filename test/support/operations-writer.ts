import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { GRANULE_BYTES, granuleBytes, type Operation, OperationStream } from "./operations.ts";

/** operations-writer.ts ROOT LIST SEED: carries the operations out, as fast as they go, until one fails. LIST, outside the filesystem under
 * test, gets "begun N" before each operation and "synced N" when an fsync, operation N, has returned. */
const [root = "", list = "", seedText = ""] = process.argv.slice(2);
const seed = Number(seedText);
const record = openSync(list, "a");
const stream = new OperationStream(seed);
for (;;) {
  const operation = stream.next();
  writeSync(record, `begun ${stream.number}\n`);
  try {
    carryOut(operation, stream.number);
  } catch (error) {
    writeSync(record, `failed ${stream.number} ${operation.type} ${String(error)}\n`);
    process.exit(0);
  }
  if (operation.type === "fsync") writeSync(record, `synced ${stream.number}\n`);
}

function carryOut(operation: Operation, number: number): void {
  const path = join(root, operation.path);
  if (operation.type === "mkdir") mkdirSync(path);
  else if (operation.type === "create") closeSync(openSync(path, "wx"));
  else if (operation.type === "unlink") rmSync(path);
  else if (operation.type === "rename") renameSync(path, join(root, operation.to));
  else if (operation.type === "truncate") withFile(path, "r+", (file) => ftruncateSync(file, operation.granules * GRANULE_BYTES));
  else if (operation.type === "fsync") withFile(path, "r", fsyncSync);
  else if (operation.type === "write") withFile(path, "r+", (file) => write(file, operation, number));
}

function write(file: number, operation: Extract<Operation, { type: "write" }>, number: number): void {
  const granules = Array.from({ length: operation.count }, (_, index) => granuleBytes(seed, number, operation.granule + index));
  const bytes = Buffer.concat(granules);
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(file, bytes, done, bytes.length - done, operation.granule * GRANULE_BYTES + done);
  }
}

function withFile(path: string, flags: string, use: (file: number) => void): void {
  const file = openSync(path, flags);
  try {
    use(file);
  } finally {
    closeSync(file);
  }
}
