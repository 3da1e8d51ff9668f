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
  RecordKind,
  TransactionBuilder,
} from "@dazzle/core";
import { closedLog } from "../audit.ts";
import type { Journal } from "../journal.ts";
import type { LogAccess } from "../log-access.ts";
import type { ShardHost } from "../shard/shard-host.ts";

/** Ends a mount's log and applies what the shards have not of it; then closes it in the map (DESIGN 7, step 4). Answers its end. */
export async function recoverMountLog(options: {
  log: number;
  logs: LogAccess;
  map: MapCache;
  host: ShardHost;
  journal: Journal;
  /** Resolves when the mount serves nothing from its caches any more. */
  leaseEnded: () => Promise<void>;
}): Promise<number> {
  const { log, logs, map, host, journal, leaseEnded } = options;
  const { end, trimmedTo } = await logs.recover(log);
  const progress = host.progress(log);
  for (let sequence = Math.max(trimmedTo, progress.applied) + 1; sequence <= end; sequence++) await applySegment(options, sequence);
  await journal.settle();
  // Before it is closed: a manager that starts now waits as well (PROTOCOL rule 29).
  await leaseEnded();
  await map.change((current) => closedLog(current, log, end));
  return end;
}

async function applySegment({ log, logs, map, host }: Parameters<typeof recoverMountLog>[0], sequence: number): Promise<void> {
  const group = findLog(map.current, log)?.groups[0];
  if (group === undefined) throw new DazzleError("corrupt", `log ${log} has segments and no group in the map`);
  const { version } = currentVersion(findGroup(map.current, group));
  const { records, groupVersion } = await logs.summary(log, sequence, group, version);
  for (const { kind, offset, length } of records) {
    if (kind !== RecordKind.transaction) continue;
    const address: LogAddress = { log, sequence, offset, length, group, groupVersion };
    // The pieces may be views of a buffer that is used again.
    const transaction = Buffer.from(joined(await logs.read(address)));
    const sections = [...decodeSections(transaction)].filter(({ slot }) => host.has(slot)).map(({ whole }) => whole);
    if (sections.length === 0) continue;
    const { applied } = host.progress(log);
    await host.apply({ log, sequence, previous: applied, group, groupVersion, sections });
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
