import { assert, isDazzleError } from "@dazzle/core";
import type { Manager } from "@dazzle/manager";
import type { SimCluster } from "../cluster.ts";
import { heldFragments, neededSegments } from "./segments.ts";

const POLL_MS = 2_000;
const LIMIT_MS = 300_000;
const SHOWN = 10;

/** Resolves when storage servers hold nothing that nobody needs. */
export async function noLeaks(cluster: SimCluster): Promise<void> {
  const { world } = cluster;
  for (const startMs = world.nowMs; ; ) {
    const leaks = await findLeaks(cluster).catch(unanswered);
    if (leaks.length === 0) return;
    assert(world.nowMs - startMs < LIMIT_MS, `nobody needs what is left: ${leaks.slice(0, SHOWN).join(", ")}`);
    await new Promise<void>((resolve) => world.after(POLL_MS, resolve));
  }
}

/** While a fault lasts, a server may not answer: it is asked again. */
function unanswered(error: unknown): string[] {
  if (!isDazzleError(error)) throw error;
  return [`a server that does not answer (${error.message})`];
}

/** Segments ("log/sequence") that storage servers hold though nobody needs them: no shard has live bytes of them, no sorted run lies in them, no log's
 * writer needs them yet. And logs that are not brought to their end: mounts' and cleaners' that are not closed, closed ones of which nothing is left. While nothing is
 * being done, and every node is up. */
async function findLeaks(cluster: SimCluster): Promise<string[]> {
  const managers = cluster.numbers.flatMap((number) => cluster.node(number).manager ?? []);
  const needed = await neededSegments(cluster);
  const { logs } = cluster.node(1).map.current;
  const leaks = new Set<string>();
  const held = await heldFragments(cluster);
  for (const { id, kind, state } of logs) {
    if (kind !== "manager" && (state === "expelled" || state === "ended")) leaks.add(`${id}, which is ${state}`);
    if (state === "closed" && !held.some(({ log }) => log === id)) leaks.add(`${id}, of which there are none`);
  }
  for (const { log, sequence } of held) {
    const segment = `${log}/${sequence}`;
    const isRun = managers.some(({ parts }) => parts.segments.has(log, sequence));
    const row = logs.find(({ id }) => id === log);
    const isUnfinished = row !== undefined && row.state !== "closed" && (row.kind === "mount" || isInOwnLog(managers, log, sequence));
    if (!needed.has(segment) && !isRun && !isUnfinished) leaks.add(segment);
  }
  return [...leaks];
}

/** Of a log that its manager still writes, what is not in a checkpoint is needed; of one that is ended, what is in a chain. */
function isInOwnLog(managers: readonly Manager[], log: number, sequence: number): boolean {
  const writer = managers.find((manager) => manager.log === log);
  return writer === undefined || sequence > writer.journal.trimmedTo;
}
