import { crc32 } from "node:zlib";

/** CRC-32 (IEEE), the one checksum of every layout. */
export function checksum(bytes: Uint8Array, seed = 0): number {
  return crc32(bytes, seed);
}
