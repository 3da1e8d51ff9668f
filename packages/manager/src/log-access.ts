import {
  type Clock,
  type ClusterMap,
  currentVersion,
  DazzleError,
  findGroup,
  findLog,
  type GroupId,
  type Limits,
  type LogAddress,
  type Logger,
  type MapCache,
  type Peers,
  watermarkBytes,
} from "@dazzle/core";
import {
  type LogListing,
  LogReader,
  LogWriter,
  listLog,
  type RecoveredLog,
  recoverLog,
  type SegmentPlace,
  type SegmentSummary,
  segmentPoolForGroups,
} from "@dazzle/log";
import type { JournalWriter } from "./journal.ts";

/** The logs as a manager uses them: its own, those before it, and the mounts'. */
export interface LogAccess {
  /** Starts to write a log that is live in the map with the manager's group registered. */
  open(log: number): JournalWriter;
  /** Expels a log's writer, seals the log and decides its end in the map, where that has not been done. */
  recover(log: number): Promise<RecoveredLog>;
  list(log: number, after: number): Promise<LogListing>;
  /** What a segment holds. `groupVersion` is a hint. */
  summary(log: number, sequence: number, group: number, groupVersion: number): Promise<SegmentSummary>;
  /** The answered bytes are not changed by anybody while the caller holds them in the same turn. */
  read(address: LogAddress): Promise<readonly Buffer[]>;
  /** What may be written to a group that need not be. Rejects `unreachable`. */
  room(group: GroupId): Promise<LogRoom>;
}

/** What merges may write before the servers are asked again. */
export const SEGMENTS_UNASKED = 2;

export interface LogRoom {
  readonly bytes: number;
  /** Of the least merges, which may take what is promised as well: a segment, or nothing where even unlink may soon be refused. */
  readonly leastBytes: number;
  readonly segmentBytes: number;
}

/** What reading them takes. */
export type ReadableLogs = Omit<LogAccess, "open" | "room">;

/** Where a log's segments probably lie that nobody says anything of. Throws `corrupt` where it can have none. */
export function likelyPlace(map: ClusterMap, log: number): SegmentPlace {
  const group = findLog(map, log)?.groups[0];
  if (group === undefined) throw new DazzleError("corrupt", `log ${log} has segments and no group in the map`);
  return { group, groupVersion: currentVersion(findGroup(map, group)).version };
}

/** Segments that a manager has under way, and bytes of them: its log is small beside the mounts'. */
const MANAGER_SEGMENTS = 8;

/** Logs striped over storage servers. */
export function stripedLogs(options: {
  map: MapCache;
  peers: Peers;
  clock: Clock;
  logger: Logger;
  limits: Limits;
  group: GroupId;
}): LogAccess {
  const { map, peers, group } = options;
  const ports = { clock: options.clock, logger: options.logger };
  const shared = { map, peers, ports, limits: options.limits };
  const reader = new LogReader(shared);
  return {
    open: (log) => {
      const version = currentVersion(findGroup(map.current, group));
      const dirtyBytes = MANAGER_SEGMENTS * version.dataFragments * options.limits.fragmentBytes;
      const limits = { ...options.limits, segmentsInFlight: MANAGER_SEGMENTS, dirtyBytes };
      const pool = segmentPoolForGroups(limits, map.current.groups);
      return new LogWriter({ ...shared, limits, log, clusterId: map.current.clusterId, group, pool });
    },
    recover: (log) => recoverLog({ ...shared, log, reader }),
    list: (log, after) => listLog(shared, log, after),
    summary: (log, sequence, ofGroup, groupVersion) => reader.summary(log, sequence, ofGroup, groupVersion),
    read: (address) => reader.read(address),
    room: (ofGroup) => roomOf(options, ofGroup),
  };
}

/** By its fullest server: what is promised to mounts, and what unlink needs, is nobody else's (rule 8). One that is silent counts as the others. */
async function roomOf(
  { map, peers, limits }: { readonly map: MapCache; readonly peers: Peers; readonly limits: Limits },
  group: GroupId,
): Promise<LogRoom> {
  const { servers, dataFragments } = currentVersion(findGroup(map.current, group));
  const asked = servers.map(({ member }) => peers.call(member, "stat", {}, { deadlineMs: limits.serverSuspectMs }));
  const told = (await Promise.allSettled(asked)).flatMap((answer) => (answer.status === "fulfilled" ? [answer.value.reply] : []));
  if (told.length === 0) throw new DazzleError("unreachable", "no storage server of the group answers");
  const left = told.map(({ bytesFree, bytesReserved, bytesTotal }) => bytesFree - bytesReserved - watermarkBytes("promised", bytesTotal));
  const leftToFree = told.map(({ bytesFree, bytesTotal }) => bytesFree - watermarkBytes("metadata", bytesTotal));
  const segmentBytes = dataFragments * limits.fragmentBytes;
  const leastBytes = Math.min(...leftToFree) >= SEGMENTS_UNASKED * limits.fragmentBytes ? segmentBytes : 0;
  return { bytes: Math.max(0, Math.min(...left) * dataFragments), leastBytes, segmentBytes };
}
