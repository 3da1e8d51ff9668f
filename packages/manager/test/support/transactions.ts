import { type Delta, decodeSections, type IndexNumber, type Inode, TransactionBuilder } from "@dazzle/core";

export function inodeOf(ino: number, changes: Partial<Inode> = {}): Inode {
  return {
    ino,
    mode: 0o100644,
    nlink: 1,
    uid: 1000,
    gid: 1000,
    rdev: 0,
    size: 0,
    allocatedBlocks: 0,
    parent: 1,
    truncateEpoch: 0,
    noAttributes: false,
    atimeNs: 1n,
    mtimeNs: 2n,
    ctimeNs: 3n,
    birthNs: 4n,
    target: "",
    ...changes,
  };
}

export function transactionOf(deltas: readonly Delta[]): Buffer {
  const builder = new TransactionBuilder();
  for (const delta of deltas) builder.add(delta);
  const bytes = Buffer.alloc(builder.bytes);
  builder.encode(bytes);
  return bytes;
}

export const ino = (value: number) => value as IndexNumber;

/** The slots that a transaction concerns. */
export function slotsOf(transaction: Uint8Array): number[] {
  return [...decodeSections(transaction)].map(({ slot }) => slot);
}
