import {
  decodeSections,
  indexNumber,
  joined,
  type LogAddress,
  type MapCache,
  NO_SLOTS,
  RecordKind,
  readAhead,
  type SlotMask,
  TransactionBuilder,
  withSlot,
} from "@dazzle/core";
import type { RecoveredLog } from "@dazzle/log";
import { type LogAccess, likelyPlace } from "../log-access.ts";
import type { Shard } from "../shard/shard.ts";
import type { ShardHost } from "../shard/shard-host.ts";

/** Segments of which the transactions are read ahead of the one that is applied. */
const AHEAD_MAX = 8;

interface Tail {
  readonly logs: LogAccess;
  readonly map: MapCache;
  readonly host: ShardHost;
  readonly log: number;
  readonly recovered: RecoveredLog;
  /** Which slots: one that comes meanwhile lacks what was read before. */
  readonly shards: readonly Shard[];
}

/** What a segment says, with its sections of all slots. */
interface LoggedTransaction {
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  readonly bytes: Buffer;
}

/** Applies what some of the slots here have not of what an ended log has above trimmed-to (docs/manager.md). Answers which of them have it all: one that was out of
 * the host when its turn came lacks something, though it may be back. */
export async function applyTail(tail: Tail): Promise<Shard[]> {
  const complete = new Map(tail.shards.map((shard) => [shard.slot, shard]));
  for await (const transactions of readAhead(AHEAD_MAX, sequencesOf(tail.recovered), (sequence) => transactionsOf(tail, sequence)))
    for (const transaction of transactions) await applyTransaction(tail, complete, transaction);
  return [...complete.values()];
}

function* sequencesOf({ end, trimmedTo }: RecoveredLog): Generator<number> {
  for (let sequence = trimmedTo + 1; sequence <= end; sequence++) yield sequence;
}

async function transactionsOf({ log, logs, map, recovered }: Tail, sequence: number): Promise<LoggedTransaction[]> {
  const likely = recovered.places.get(sequence) ?? likelyPlace(map.current, log);
  const { records, group, groupVersion } = await logs.summary(log, sequence, likely.group, likely.groupVersion);
  const transactions: LoggedTransaction[] = [];
  for (const { kind, offset, length } of records) {
    if (kind !== RecordKind.transaction) continue;
    const address: LogAddress = { log, sequence, offset, length, group, groupVersion };
    // The pieces may be views of a buffer that is used again.
    transactions.push({ sequence, group, groupVersion, bytes: Buffer.from(joined(await logs.read(address))) });
  }
  return transactions;
}

async function applyTransaction(
  { log, host }: Tail,
  shards: Map<number, Shard>,
  { sequence, group, groupVersion, bytes }: LoggedTransaction,
): Promise<void> {
  let touched: SlotMask = NO_SLOTS;
  const sections: Buffer[] = [];
  for (const { slot, whole } of decodeSections(bytes)) {
    touched = withSlot(touched, slot);
    if (host.has(slot) && host.shard(slot) === shards.get(slot)) sections.push(whole);
    // Nothing later is applied to it over what it lacks.
    else shards.delete(slot);
  }
  if (sections.length > 0) await host.apply({ log, sequence, previous: null, group, groupVersion, touched, sections });
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
