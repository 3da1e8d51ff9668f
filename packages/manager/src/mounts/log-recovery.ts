import {
  currentVersion,
  DazzleError,
  decodeSections,
  findGroup,
  findLog,
  indexNumber,
  joined,
  type LogAddress,
  type MapCache,
  NO_SLOTS,
  RecordKind,
  type SlotMask,
  TransactionBuilder,
  withSlot,
} from "@dazzle/core";
import type { LogAccess } from "../log-access.ts";
import type { Shard } from "../shard/shard.ts";
import type { ShardHost } from "../shard/shard-host.ts";

interface Tail {
  readonly logs: LogAccess;
  readonly map: MapCache;
  readonly host: ShardHost;
  readonly log: number;
  readonly from: number;
  readonly end: number;
  /** Which slots: one that comes meanwhile lacks what was read before. */
  readonly shards: ReadonlySet<Shard>;
}

/** Applies what some of the slots here have not of an ended log's segments `from … end` (docs/manager.md). */
export async function applyTail(tail: Tail): Promise<void> {
  for (let sequence = tail.from; sequence <= tail.end; sequence++) await applySegment(tail, sequence);
}

async function applySegment({ log, logs, map, host, shards }: Tail, sequence: number): Promise<void> {
  const likely = findLog(map.current, log)?.groups[0];
  if (likely === undefined) throw new DazzleError("corrupt", `log ${log} has segments and no group in the map`);
  const { version } = currentVersion(findGroup(map.current, likely));
  const { records, group, groupVersion } = await logs.summary(log, sequence, likely, version);
  for (const { kind, offset, length } of records) {
    if (kind !== RecordKind.transaction) continue;
    const address: LogAddress = { log, sequence, offset, length, group, groupVersion };
    // The pieces may be views of a buffer that is used again.
    const transaction = Buffer.from(joined(await logs.read(address)));
    let touched: SlotMask = NO_SLOTS;
    const sections: Buffer[] = [];
    for (const { slot, whole } of decodeSections(transaction)) {
      touched = withSlot(touched, slot);
      if (host.has(slot) && shards.has(host.shard(slot))) sections.push(whole);
    }
    if (sections.length > 0) await host.apply({ log, sequence, previous: null, group, groupVersion, touched, sections });
  }
}

/** Orphans that one transaction of the manager removes. */
const ORPHANS_A_STEP = 500;

/** Removes the unlinked files that nobody has open any more: those of mounts that are gone, and that no other holds. */
export async function reclaimOrphans(host: ShardHost, mayBeOpen: (ino: number, mount: number) => boolean): Promise<number> {
  const inos: number[] = [];
  for (const shard of host.shards) for (const [ino, mount] of shard.orphans) if (!mayBeOpen(ino, mount)) inos.push(ino);
  for (let at = 0; at < inos.length; at += ORPHANS_A_STEP) {
    const builder = new TransactionBuilder();
    for (const ino of inos.slice(at, at + ORPHANS_A_STEP)) builder.add({ kind: "removeInode", ino: indexNumber(ino) });
    await host.applyOwn(builder);
  }
  return inos.length;
}
