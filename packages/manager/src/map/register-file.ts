import { asBuffer, type Ballot, type ClusterMap, checksum, DazzleError } from "@dazzle/core";

/** What a keeper knows: it is on disk before anybody is told of it. */
export interface KeeperState {
  /** Nothing of an earlier ballot is accepted any more. */
  readonly promised: Ballot;
  /** The ballot that `map` came with. */
  readonly accepted: Ballot;
  readonly map: ClusterMap;
}

/** The register's file, little-endian; what finds the rest comes first.
 *   0 4 magic "DZMP"   4 4 checksum of the rest   8 4 format   12 4 bytes of the state   16 the state, JSON */
export const REGISTER = { magic: 0, checksum: 4, format: 8, length: 12, end: 16 } as const;
const REGISTER_MAGIC = 0x504d5a44;
/** Format 1 was the map alone, of a register with one keeper. */
const REGISTER_FORMAT = 2;

export function encodeRegister(state: KeeperState): Buffer {
  const json = Buffer.from(JSON.stringify(state));
  const bytes = Buffer.alloc(REGISTER.end + json.length);
  bytes.writeUInt32LE(REGISTER_MAGIC, REGISTER.magic);
  bytes.writeUInt32LE(REGISTER_FORMAT, REGISTER.format);
  bytes.writeUInt32LE(json.length, REGISTER.length);
  json.copy(bytes, REGISTER.end);
  bytes.writeUInt32LE(checksum(bytes.subarray(REGISTER.format)), REGISTER.checksum);
  return bytes;
}

/** Throws `corrupt`. */
export function decodeRegister(source: Uint8Array): KeeperState {
  const bytes = asBuffer(source);
  const whole = bytes.length >= REGISTER.end && bytes.readUInt32LE(REGISTER.magic) === REGISTER_MAGIC;
  if (!whole || bytes.readUInt32LE(REGISTER.checksum) !== checksum(bytes.subarray(REGISTER.format)))
    throw new DazzleError("corrupt", "the cluster map's file is damaged");
  const format = bytes.readUInt32LE(REGISTER.format);
  if (format !== REGISTER_FORMAT) throw new DazzleError("corrupt", `the cluster map's file is of format ${format}, not ${REGISTER_FORMAT}`);
  return JSON.parse(bytes.toString("utf8", REGISTER.end, REGISTER.end + bytes.readUInt32LE(REGISTER.length))) as KeeperState;
}
