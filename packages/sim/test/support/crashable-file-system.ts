import type { DirectoryEntry, FileSystem } from "@dazzle/core";
import { MemoryFileSystem } from "../../../fuse/test/support/memory-file-system.ts";

/** What changes the filesystem, or numbers a handle. */
const JOURNALED = new Set<PropertyKey>([
  ...["create", "makeNode", "makeDirectory", "symlink", "link", "unlink", "removeDirectory", "rename", "write", "setAttributes"],
  ...["setExtendedAttribute", "removeExtendedAttribute", "allocate", "open", "openDirectory"],
]);
const SYNCS = new Set<PropertyKey>(["fsync", "fsyncDirectory"]);

interface Call {
  readonly method: string;
  readonly parameters: readonly unknown[];
}

type AnyMethod = (...parameters: unknown[]) => unknown;

/** A filesystem in memory that can fall back to what it was after any number of its calls. */
export class CrashableFileSystem {
  readonly journal: Call[] = [];
  /** How many of the calls a crash must keep. */
  synced = 0;
  readonly memory = new MemoryFileSystem();
  readonly fileSystem: FileSystem = new Proxy(this.memory, { get: (target, property) => this.#method(target, property) });

  /** What is left when all but the first calls are lost; `skip` names one more that is lost. */
  crash(kept: number, skip = -1): CrashableFileSystem {
    const after = new CrashableFileSystem();
    this.journal.slice(0, kept).forEach((call, index) => {
      if (index !== skip) (Reflect.get(after.fileSystem, call.method) as AnyMethod)(...call.parameters);
    });
    after.synced = after.journal.length;
    return after;
  }

  #method(target: MemoryFileSystem, property: PropertyKey): unknown {
    if (property === "readDirectory") return (...parameters: Parameters<FileSystem["readDirectory"]>) => listing(target, ...parameters);
    const value: unknown = Reflect.get(target, property, target);
    if (typeof value !== "function") return value;
    return (...parameters: unknown[]) => {
      const copies = parameters.map((parameter) => (Buffer.isBuffer(parameter) ? Buffer.from(parameter) : parameter));
      const result: unknown = value.apply(target, parameters);
      if (JOURNALED.has(property)) this.journal.push({ method: String(property), parameters: copies });
      if (SYNCS.has(property)) this.synced = this.journal.length;
      return result;
    };
  }
}

/** Entries in the order of their cookies: the filesystem in memory gives an exchanged name a new cookie in its old place. */
function listing(memory: MemoryFileSystem, ...[caller, ino, handle, cookie, limit]: Parameters<FileSystem["readDirectory"]>) {
  const rows = memory.readDirectory(caller, ino, handle, 0, Number.MAX_SAFE_INTEGER, false) as DirectoryEntry[];
  return rows
    .filter((row) => row.cookie > cookie)
    .sort((one, other) => one.cookie - other.cookie)
    .slice(0, limit);
}
