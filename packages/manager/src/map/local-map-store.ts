import { asBuffer, type ClusterMap, checksum, DazzleError, type Disk, type MapStore } from "@dazzle/core";
import { checkMap, checkSuccessor } from "./check-map.ts";

/** The register's file, little-endian; what finds the rest comes first.
 *   0 4 magic "DZMP"   4 4 checksum of the rest   8 4 format   12 4 bytes of the map   16 the map, JSON */
export const REGISTER = { magic: 0, checksum: 4, format: 8, length: 12, end: 16 } as const;
const REGISTER_MAGIC = 0x504d5a44;
const REGISTER_FORMAT = 1;

export function encodeRegister(map: ClusterMap): Buffer {
  const json = Buffer.from(JSON.stringify(map));
  const bytes = Buffer.alloc(REGISTER.end + json.length);
  bytes.writeUInt32LE(REGISTER_MAGIC, REGISTER.magic);
  bytes.writeUInt32LE(REGISTER_FORMAT, REGISTER.format);
  bytes.writeUInt32LE(json.length, REGISTER.length);
  json.copy(bytes, REGISTER.end);
  bytes.writeUInt32LE(checksum(bytes.subarray(REGISTER.format)), REGISTER.checksum);
  return bytes;
}

/** Throws `corrupt`. */
export function decodeRegister(source: Uint8Array): ClusterMap {
  const bytes = asBuffer(source);
  const whole = bytes.length >= REGISTER.end && bytes.readUInt32LE(REGISTER.magic) === REGISTER_MAGIC;
  if (!whole || bytes.readUInt32LE(REGISTER.checksum) !== checksum(bytes.subarray(REGISTER.format)))
    throw new DazzleError("corrupt", "the cluster map's file is damaged");
  const format = bytes.readUInt32LE(REGISTER.format);
  if (format !== REGISTER_FORMAT) throw new DazzleError("corrupt", `the cluster map's file is of format ${format}, not ${REGISTER_FORMAT}`);
  return JSON.parse(bytes.toString("utf8", REGISTER.end, REGISTER.end + bytes.readUInt32LE(REGISTER.length))) as ClusterMap;
}

/** The map's register with a single keeper: one file, replaced whole before a change is answered. */
export class LocalMapStore implements MapStore {
  readonly #disk: Disk;
  readonly #path: string;
  #current: ClusterMap;
  /** Writes one after the other. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(disk: Disk, path: string, current: ClusterMap) {
    this.#disk = disk;
    this.#path = path;
    this.#current = current;
  }

  /** Makes a new cluster's register. Durable when it resolves. Rejects `exists` where there is one. */
  static async create(disk: Disk, path: string, map: ClusterMap): Promise<LocalMapStore> {
    checkMap(map);
    if ((await disk.readWhole(path)) !== undefined) throw new DazzleError("exists", `a cluster map at ${path}`);
    await disk.replace(path, encodeRegister(map));
    return new LocalMapStore(disk, path, map);
  }

  /** Undefined where there is none. Rejects `corrupt`. */
  static async open(disk: Disk, path: string): Promise<LocalMapStore | undefined> {
    const bytes = await disk.readWhole(path);
    if (bytes === undefined) return undefined;
    const map = decodeRegister(bytes);
    checkMap(map);
    return new LocalMapStore(disk, path, map);
  }

  get current(): ClusterMap {
    return this.#current;
  }

  async read(): Promise<ClusterMap> {
    return this.#current;
  }

  /** Durable when it resolves. Rejects `versionConflict`; `badMessage` where `next` contradicts itself or what was decided. */
  compareAndSwap(expected: number, next: ClusterMap): Promise<void> {
    const written = this.#writing.then(async () => {
      if (this.#current.version !== expected)
        throw new DazzleError("versionConflict", `the cluster map is at ${this.#current.version}, not ${expected}`);
      checkSuccessor(this.#current, next);
      await this.#disk.replace(this.#path, encodeRegister(next));
      this.#current = next;
    });
    this.#writing = written.catch(() => {});
    return written;
  }
}
