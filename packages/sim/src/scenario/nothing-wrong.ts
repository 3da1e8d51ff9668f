import { assert, isDazzleError } from "@dazzle/core";
import type { SimCluster } from "../cluster.ts";

const POLL_MS = 2_000;
const LIMIT_MS = 300_000;
const SHOWN = 10;

/** Resolves when fsck, which reads everything, finds nothing: what has rotted is repaired by then. While nothing is being done, and every node is up. */
export async function nothingWrong(cluster: SimCluster): Promise<void> {
  const { world } = cluster;
  for (const startMs = world.nowMs; ; ) {
    const wrong = await findings(cluster).catch(unanswered);
    if (wrong.length === 0) return;
    assert(world.nowMs - startMs < LIMIT_MS, `fsck finds ${wrong.slice(0, SHOWN).join(", ")}`);
    await new Promise<void>((resolve) => world.after(POLL_MS, resolve));
  }
}

/** While a fault lasts, a server may not answer: it is asked again. */
function unanswered(error: unknown): string[] {
  if (!isDazzleError(error)) throw error;
  return [`nothing (${error.message})`];
}

async function findings(cluster: SimCluster): Promise<string[]> {
  const report = await cluster.launchFsck("data");
  const told = [...report.findings, ...report.unsettled].map(
    ({ problem, subject, seen }) => `${problem} ${JSON.stringify(subject)}: ${seen}`,
  );
  return [...told, ...report.unchecked];
}
