import {
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
import { LogEvidence, planEnd, type WrittenVersion } from "./log-end.ts";
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
}

/** Ends the log of a writer that is gone: expels it, seals the log, proves its end, makes what is recoverable above trimmed-to fully redundant, and
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
  const evidence = await gather(options);
  const decided = rowOf(options).end;
  if (decided !== null) return { end: decided, trimmedTo: Math.min(decided, evidence.trimmedTo) };
  const plan = planEnd(evidence);
  if (plan.kind === "lost")
    throw new DazzleError("segmentLost", `log ${options.log} segment ${plan.sequence} was stable and no server has enough of it`);
  if (plan.kind === "awaited") {
    const names = plan.servers.map(({ member }) => memberName(options, member)).join(", ");
    throw new DazzleError("unreachable", `log ${options.log}: ${plan.reason}, awaited: ${names}`);
  }
  const end = await restoreAll(options, evidence, plan);
  return { end: await decideEnd(options, end), trimmedTo: evidence.trimmedTo };
}

/** Has the servers of every version adopt the map and list the log. Waits for the silent only while without them nothing follows. */
async function gather(options: RecoverOptions): Promise<LogEvidence> {
  const row = rowOf(options);
  const versions = versionsOf(options, row);
  const adopters = new Map<StoreId, ServerListing>();
  const servers = serversOf(options, row);
  const gone = goneStores(options.map.current, servers);
  const evidence = () => new LogEvidence(versions, adopters, gone);
  const present = servers.filter(({ store }) => !gone.has(store));
  const asked = present.map(async (server) => {
    try {
      adopters.set(server.store, await adopterListing(options, server));
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      options.ports.logger("info", "a server says nothing about a log that is recovered", {
        log: options.log,
        server: memberName(options, server.member),
        reason: error.message,
      });
    }
  });
  await allOrEnough(
    options.ports.clock,
    options.limits.readHedgeMs,
    asked,
    () => row.end !== null || planEnd(evidence()).kind === "decided",
  );
  return evidence();
}

function versionsOf(options: RecoverOptions, row: LogRow): WrittenVersion[] {
  return row.groups.flatMap((group) =>
    findGroup(options.map.current, group).versions.map((version) => ({
      group,
      row: version,
      lastSequence: version.frozen === null ? Number.MAX_SAFE_INTEGER : (version.frozen[row.id] ?? 0),
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
        throw error;
      }
      end = Math.min(end, segment.sequence - 1);
    }
  });
  return end;
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
