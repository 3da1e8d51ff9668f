import {
  assert,
  BLOCK_BYTES,
  DazzleError,
  type Delta,
  FILE_END,
  type IndexNumber,
  type Limits,
  RecordKind,
  SegmentClass,
  type SegmentRecord,
  TransactionBuilder,
  type WrittenExtent,
} from "@dazzle/core";
import type { LogWriter, SealedSegment } from "@dazzle/log";
import type { Node } from "./node.ts";

/** Room a changed index node, its slot's section and its summary record take, at most, beside its names and attributes. */
const NODE_BYTES = 320;
const NAME_BYTES = 48;
const EXTENT_BYTES = 64;

export interface Logged {
  readonly sequence: number;
  readonly transaction: Buffer;
}

/** The mount's changes since the last seal, and how they enter the log: at a seal, the final state of everything dirty
 * becomes one transaction behind the blocks that already lie in the open segment (rule 4). */
export class Journal {
  readonly #writer: LogWriter;
  readonly #limits: Limits;
  readonly #onSealed: (segment: SealedSegment, logged: Logged) => void;
  readonly #dirty = new Set<Node>();
  /** Upper bound of what the transaction and the summary will take. */
  #estimatedBytes = 0;
  #freesOnly = true;
  #committing: Promise<number> | null = null;
  #nextCommit: Promise<number> | null = null;
  lastSealed = 0;
  seals = 0;

  constructor(writer: LogWriter, limits: Limits, onSealed: (segment: SealedSegment, logged: Logged) => void) {
    this.#writer = writer;
    this.#limits = limits;
    this.#onSealed = onSealed;
  }

  get writer(): LogWriter {
    return this.#writer;
  }

  get dirty(): boolean {
    return this.#dirty.size > 0 || this.#writer.openBytes > 0;
  }

  /** True when an operation may change memory now; false where it must wait for `whenRoom`: no change is accepted that
   * could not be logged. Throws when the log is sealed for ever. */
  admits(): boolean {
    if (this.#writer.failure !== null) throw new DazzleError("inputOutput", this.#writer.failure.message);
    if (!this.#writer.ready) return false;
    if (this.#estimatedBytes < this.#limits.transactionBytes / 2) return true;
    this.seal(false);
    return this.#writer.ready;
  }

  whenRoom(): Promise<void> {
    return this.#writer.whenReady();
  }

  /** The index node changed. Called after the change, in the same turn. */
  markInode(node: Node): void {
    if (!node.inodeDirty) {
      node.inodeDirty = true;
      this.#estimatedBytes += NODE_BYTES + node.inode.target.length;
    }
    this.#dirty.add(node);
    if (!node.logged) this.#freesOnly = false;
  }

  markName(directory: Node, name: string): void {
    this.#estimatedBytes += NAME_BYTES + name.length;
    this.#dirty.add(directory);
  }

  markExtent(node: Node, fromBlock: number, toBlock: number): void {
    node.openFrom = Math.min(node.openFrom, fromBlock);
    node.openTo = Math.max(node.openTo, toBlock);
    this.#estimatedBytes += EXTENT_BYTES;
    this.#dirty.add(node);
    this.#freesOnly = false;
  }

  markTruncated(node: Node, from: number): void {
    node.cuts ??= { truncateFrom: FILE_END, punched: [] };
    node.cuts.truncateFrom = Math.min(node.cuts.truncateFrom, from);
    this.#estimatedBytes += EXTENT_BYTES;
    this.#dirty.add(node);
  }

  markPunched(node: Node, from: number, to: number): void {
    node.cuts ??= { truncateFrom: FILE_END, punched: [] };
    node.cuts.punched.push([from, to]);
    this.#estimatedBytes += EXTENT_BYTES;
    this.#dirty.add(node);
  }

  markAttribute(node: Node, name: string): void {
    node.attributesDirty.add(name);
    this.#estimatedBytes += NAME_BYTES + name.length + (node.attributes?.get(name)?.byteLength ?? 0);
    this.#dirty.add(node);
    this.#freesOnly = false;
  }

  markRemoved(node: Node): void {
    node.removed = true;
    node.removalDirty = true;
    this.#estimatedBytes += NODE_BYTES;
    this.#dirty.add(node);
  }

  /** Seals the open segment with everything dirty. The writer is ready. Answers the sequence, or the last sealed one where nothing is dirty. */
  seal(urgent: boolean): number {
    if (!this.dirty) return this.lastSealed;
    assert(this.#writer.ready, "a seal has a buffer");
    const sequence = this.#writer.openSequence;
    const builder = new TransactionBuilder();
    const records: SegmentRecord[] = [];
    for (const node of this.#dirty) this.#drain(node, sequence, builder, records);
    this.#dirty.clear();
    const bytes = builder.bytes;
    const transaction = Buffer.allocUnsafe(bytes);
    builder.encode(transaction);
    if (bytes > 0) {
      const placed = this.#writer.place(bytes, true);
      assert(placed !== undefined, `a transaction of ${bytes} bytes fits its segment`);
      placed.bytes.set(transaction);
      records.push({ kind: RecordKind.transaction, owner: 0, position: 0, term: 0, offset: placed.offset, length: bytes });
    }
    const logClass = this.#freesOnly ? SegmentClass.metadata : SegmentClass.data;
    this.#estimatedBytes = 0;
    this.#freesOnly = true;
    this.lastSealed = sequence;
    this.seals++;
    records.sort((a, b) => a.offset - b.offset);
    const sealed = this.#writer.seal(records, { class: logClass, urgent });
    this.#onSealed(sealed, { sequence, transaction });
    return sequence;
  }

  /** Moves a node's changes into the transaction. */
  #drain(node: Node, sequence: number, builder: TransactionBuilder, records: SegmentRecord[]): void {
    node.checkInvariants();
    const ino = node.ino as IndexNumber;
    const deltas: Delta[] = [];
    if (node.removed && node.logged) {
      // Names may be logged that went in the same segment as their directory.
      for (const name of node.directory?.dirty.keys() ?? []) deltas.push({ kind: "removeEntry", ino, name });
      deltas.push({ kind: "removeInode", ino });
    } else if (!node.removed) {
      // The blocks behind it are counted where they are put.
      if (node.inodeDirty && node.token === "range") deltas.push(mergeOf(node));
      this.#drainData(node, ino, sequence, deltas, records);
      if (node.inodeDirty && node.token !== "range") deltas.push({ kind: "putInode", ino, inode: { ...node.inode } });
      for (const name of node.attributesDirty) {
        const value = node.attributes?.get(name);
        deltas.push(value === undefined ? { kind: "removeAttribute", ino, name } : { kind: "putAttribute", ino, name, value });
      }
      for (const [name, child] of node.directory?.dirty ?? []) {
        deltas.push(
          child === null ? { kind: "removeEntry", ino, name } : { kind: "putEntry", ino, name, child: child.ino, type: child.type },
        );
      }
    }
    node.inodeDirty = false;
    node.removalDirty = false;
    node.cuts = null;
    node.openFrom = Number.POSITIVE_INFINITY;
    node.openTo = 0;
    node.attributesDirty.clear();
    node.directory?.dirty.clear();
    if (deltas.length === 0) return;
    for (const delta of deltas) builder.add(delta);
    node.logged = true;
    node.lastSequence = sequence;
  }

  #drainData(node: Node, ino: IndexNumber, sequence: number, deltas: Delta[], records: SegmentRecord[]): void {
    if (node.cuts !== null) {
      const { truncateFrom, punched } = node.cuts;
      if (truncateFrom < FILE_END) deltas.push({ kind: "cutExtents", ino, from: truncateFrom, to: FILE_END });
      for (const [from, to] of punched) deltas.push({ kind: "cutExtents", ino, from, to });
    }
    if (node.openTo === 0) return;
    const extents: WrittenExtent[] = [];
    for (const extent of node.extents.between(node.openFrom, node.openTo)) {
      if (extent.log !== this.#writer.log || extent.sequence !== sequence) continue;
      extents.push({ block: extent.block, offset: extent.offset, length: extent.length });
      const position = extent.block * BLOCK_BYTES;
      records.push({ kind: RecordKind.block, owner: ino, position, term: 0, offset: extent.offset, length: extent.length });
    }
    if (extents.length > 0) deltas.push({ kind: "putExtents", ino, extents });
  }

  /** Logs and makes durable everything done before the call; callers that wait together share a segment (rule 7).
   * Answers the sequence that is stable. */
  commit(): Promise<number> {
    if (this.#committing === null) {
      this.#committing = this.#commitNow().finally(() => {
        this.#committing = null;
      });
      return this.#committing;
    }
    this.#nextCommit ??= this.#committing
      .catch(() => 0)
      .then(() => {
        this.#nextCommit = null;
        return this.commit();
      });
    return this.#nextCommit;
  }

  async #commitNow(): Promise<number> {
    while (this.dirty && !this.#writer.ready) await this.#writer.whenReady();
    const sequence = this.seal(true);
    if (sequence > 0) await this.#writer.flush(sequence);
    return sequence;
  }

  /** Logs what is dirty without waiting for it, where there is a buffer. */
  flushSoon(): void {
    if (this.dirty && this.#writer.ready && this.#writer.failure === null) this.seal(false);
  }
}

function mergeOf({ ino, inode: { size, mtimeNs, ctimeNs } }: Node): Delta {
  return { kind: "mergeInode", ino: ino as IndexNumber, size, mtimeNs, ctimeNs };
}
