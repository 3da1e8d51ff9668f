import {
  currentVersion,
  DazzleError,
  findGroup,
  findLog,
  type GroupServer,
  isDazzleError,
  type LogRow,
  type StoreId,
  sleep,
  someAtOnce,
  withLog,
} from "@dazzle/core";
import { allOrEnough } from "./enough.ts";
import { adoptAt, listAbove, memberName, type ServerListing, serversOf } from "./listing.ts";
import { LogEvidence, planEnd, type SegmentPlace, type SegmentToRestore, type WrittenVersion } from "./log-end.ts";
import type { LogOptions } from "./options.ts";
import { goneStores } from "./outdated.ts";
import type { LogReader } from "./reader.ts";
import { leaveOut } from "./regroup.ts";
import { RESTORES_MAX, restoreSegment, type UnrestoredError } from "./restore.ts";

const RETRY_MS = 100;

export interface RecoverOptions extends LogOptions {
  readonly log: number;
  readonly reader: LogReader;
}

export interface RecoveredLog {
  /** The last sequence that belongs to the log, decided in the map. */
  readonly end: number;
  readonly trimmedTo: number;
  /** Of the segments from there to the end, by sequence, as far as they are known. */
  readonly places: ReadonlyMap<number, SegmentPlace>;
}

/** Ends the log of a writer that is gone: expels it, seals the log, proves its end, makes what is recoverable above trimmed-to and was not stable fully redundant, and
 * decides the end in the map (rules 9 to 12). Any member may do it; two at once agree. Where silence makes it undecidable it waits,
 * and rejects `unreachable` (naming the servers) after `writeDeadlineMs`. Rejects `segmentLost` where a segment that was stable can't be read. */
export async function recoverLog(options: RecoverOptions): Promise<RecoveredLog> {
  const { log, ports, limits } = options;
  const deadlineMs = ports.clock.nowMs() + limits.writeDeadlineMs;
  for (;;) {
    try {
      await expel(options);
      return await recoverOnce(options);
    } catch (error) {
      // Sealed: another recovery decided an end before what is restored here.
      const canPass = isDazzleError(error) && (error.retry !== "never" || error.code === "logSealed");
      if (!canPass || ports.clock.nowMs() >= deadlineMs) throw error;
      ports.logger("warning", "the end of a log can't be decided yet", { log, reason: error.message });
      await sleep(ports.clock, RETRY_MS);
    }
  }
}

async function expel(options: RecoverOptions): Promise<void> {
  await options.map.refresh();
  await options.map.change((map) =>
    findLog(map, options.log)?.state === "live" ? withLog(map, options.log, { state: "expelled" }) : undefined,
  );
}

function rowOf(options: RecoverOptions): LogRow {
  const row = findLog(options.map.current, options.log);
  if (row === undefined) throw new DazzleError("notFound", `log ${options.log} is not in the map`);
  return row;
}

/** One attempt, on the map as it is now. Rejects `unreachable` where something must be waited for, `staleMap` where it changed. */
async function recoverOnce(options: RecoverOptions): Promise<RecoveredLog> {
  const answers: Answers = { beganMs: options.ports.clock.nowMs(), adopters: new Map(), failed: new Set() };
  const evidence = await gather(options, answers);
  const decided = rowOf(options).end;
  if (decided !== null) return recovered(evidence, decided);
  const plan = planEnd(evidence);
  if (plan.kind === "decided" && (await leaveOutUnheard(options, plan.restores, answers))) return recoverOnce(options);
  if (plan.kind === "lost")
    throw new DazzleError("segmentLost", `log ${options.log} segment ${plan.sequence} was stable and no server has enough of it`);
  if (plan.kind === "awaited") {
    const names = plan.servers.map(({ member }) => memberName(options, member)).join(", ");
    throw new DazzleError("unreachable", `log ${options.log}: ${plan.reason}, awaited: ${names}`);
  }
  return recovered(evidence, await decideEnd(options, await restoreAll(options, evidence, plan)));
}

function recovered(evidence: LogEvidence, end: number): RecoveredLog {
  return { end, trimmedTo: Math.min(end, evidence.trimmedTo), places: evidence.places(end) };
}

/** What servers said when they were to adopt the map and list the log: it may become more at any time. */
interface Answers {
  readonly beganMs: number;
  readonly adopters: Map<StoreId, ServerListing>;
  readonly failed: Set<StoreId>;
}

/** Has the servers of every version adopt the map and list the log. Waits for the silent only while without them nothing follows. Rejects `unreachable` where the end is decided
 * and nobody answers. */
async function gather(options: RecoverOptions, { adopters, failed }: Answers): Promise<LogEvidence> {
  const row = rowOf(options);
  const versions = versionsOf(options, row);
  const servers = serversOf(options, row);
  const gone = goneStores(options.map.current, servers);
  const evidence = () => new LogEvidence(versions, adopters, gone);
  const present = servers.filter(({ store }) => !gone.has(store));
  const asked = present.map(async (server) => {
    try {
      adopters.set(server.store, await adopterListing(options, server));
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      failed.add(server.store);
      options.ports.logger("info", "a server says nothing about a log that is recovered", {
        log: options.log,
        server: memberName(options, server.member),
        reason: error.message,
      });
    }
  });
  // Where the end is decided it is only to be known how far the log is trimmed: of what was deleted, one of so many servers knows that.
  const isEnough = () =>
    row.end === null ? planEnd(evidence()).kind === "decided" : evidence().unsealed.length === 0 && adopters.size > 0;
  await allOrEnough(options.ports.clock, options.limits.readHedgeMs, asked, isEnough);
  if (row.end !== null && present.length > 0 && adopters.size === 0) {
    const names = present.map(({ member }) => memberName(options, member)).join(", ");
    throw new DazzleError("unreachable", `log ${options.log}: nobody tells how far it is trimmed, awaited: ${names}`);
  }
  return evidence();
}

function versionsOf(options: RecoverOptions, row: LogRow): WrittenVersion[] {
  return row.groups.flatMap((group) =>
    findGroup(options.map.current, group).versions.map((version) => ({
      group,
      row: version,
      // Of a log that had an end when a version was frozen there is no record: all of it may lie there.
      lastSequence: version.frozen === null || row.end !== null ? Number.MAX_SAFE_INTEGER : (version.frozen[row.id] ?? 0),
    })),
  );
}

async function adopterListing(options: RecoverOptions, server: GroupServer): Promise<ServerListing> {
  const boot = await adoptAt(options, server);
  const { trimmedTo } = await listAbove(options, server.member, options.log, Number.MAX_SAFE_INTEGER);
  const listing = await listAbove(options, server.member, options.log, trimmedTo);
  if (listing.boot !== boot) throw new DazzleError("bootChanged", `${memberName(options, server.member)} restarted while it was asked`);
  return listing;
}

/** Makes every segment of the plan fully redundant, some at once: what is restored past the end is ignored. Answers the end: earlier than planned where one that was never stable can't be read. */
async function restoreAll(
  options: RecoverOptions,
  evidence: LogEvidence,
  plan: Extract<ReturnType<typeof planEnd>, { kind: "decided" }>,
): Promise<number> {
  let { end } = plan;
  await someAtOnce(RESTORES_MAX, plan.restores, async (segment) => {
    if (segment.sequence > end) return;
    try {
      await restoreSegment(options, evidence, segment);
    } catch (error) {
      if (!segment.beyond || !isDazzleError(error, "segmentLost", "fragmentMissing")) {
        await leaveOutSilent(options, error);
        // Trimmed, and deleted since it was listed: the next look sees that.
        throw isDazzleError(error, "fragmentMissing", "invalid") ? new DazzleError("notReady", error.message) : error;
      }
      end = Math.min(end, segment.sequence - 1);
    }
  });
  return end;
}

/** What is to be written whole can't be while a server is to take some of it that can't be reached, or has been silent for `serverSuspectMs`: it is left out first, as a writer
 * would leave it out (rule 32). Answers whether a group has another version now. */
async function leaveOutUnheard(
  options: RecoverOptions,
  restores: readonly SegmentToRestore[],
  { beganMs, adopters, failed }: Answers,
): Promise<boolean> {
  const { map, ports, limits } = options;
  const groups = [...new Set(restores.flatMap(({ readable }) => readable.slice(0, 1).map(({ version }) => version.group)))];
  const unheard = () =>
    groups.flatMap((group) => {
      const { servers } = currentVersion(findGroup(map.current, group));
      return servers.filter(({ store }) => !adopters.has(store)).map(({ member, store }) => ({ group, member, store }));
    });
  if (unheard().some(({ store }) => !failed.has(store)))
    await sleep(ports.clock, Math.max(0, beganMs + limits.serverSuspectMs - ports.clock.nowMs()));
  let changed = false;
  for (const { group, member } of unheard()) changed = (await leftOut(options, group, member)) || changed;
  return changed;
}

/** It is tried all the same to write with a server that can't be left out. */
async function leftOut(options: RecoverOptions, group: number, member: number): Promise<boolean> {
  try {
    return await leaveOut({ ...options, group, member });
  } catch (error) {
    if (!isDazzleError(error)) throw error;
    return false;
  }
}

/** A restore that failed because a server of the current version is silent goes on without it, where that is possible. */
async function leaveOutSilent(options: RecoverOptions, error: unknown): Promise<void> {
  const unrestored = error as Partial<UnrestoredError>;
  if (unrestored.member === undefined || unrestored.group === undefined) return;
  await leaveOut({ ...options, group: unrestored.group, member: unrestored.member });
}

/** The first to write it decides; answers what was decided. */
async function decideEnd(options: RecoverOptions, end: number): Promise<number> {
  const map = await options.map.change((current) =>
    findLog(current, options.log)?.end === null ? withLog(current, options.log, { state: "ended", end }) : undefined,
  );
  const row = findLog(map, options.log);
  if (row === undefined) throw new DazzleError("notFound", `log ${options.log} left the map`);
  options.ports.logger("info", "the end of a log is decided", { log: options.log, end: row.end });
  return row.end ?? end;
}
