import type { CleanerStatus } from "./cleaner-status.ts";
import { bytesText, ranges } from "./figures.ts";
import type { ManagerStatus } from "./manager-status.ts";
import type { RebuildRow } from "./rebuild-watch.ts";
import type { GroupStatus, MemberStatus, ScrubRow, StatusDocument } from "./status-document.ts";
import type { WrittenStatus } from "./written-status.ts";

export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] as number))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function memberTable(members: readonly MemberStatus[]): string {
  return table([
    ["MEMBER", "STATE", "PID", "USED", "FREE", "ROLES", "ADDRESS"],
    ...members.map((row) => [
      row.name,
      row.state,
      row.pid === null ? "-" : String(row.pid),
      bytesText(row.bytesUsed),
      bytesText(row.bytesFree),
      row.roles.join(","),
      row.address,
    ]),
  ]);
}

export function groupTable(groups: readonly GroupStatus[]): string {
  return table([
    ["GROUP", "STATE", "VERSION", "STRIPE", "STORED", "SERVERS"],
    ...groups.map((row) => [
      row.name,
      row.state,
      String(row.version),
      `${row.dataFragments}+${row.parityFragments}${row.dataMax === null ? "" : ` (--data ${row.dataMax})`}`,
      bytesText(row.bytes),
      row.servers.join(","),
    ]),
  ]);
}

export function managerTable(managers: readonly ManagerStatus[]): string {
  return table([
    ["MANAGER", "STATE", "SLOTS", ""],
    ...managers.map((row) => [row.name, row.state, String(row.slots), ranges(row.slotList)]),
  ]);
}

export function scrubTable(scrub: readonly ScrubRow[]): string {
  return table([
    ["SCRUB", "STATE", "VERIFIED", "DAMAGED", "REPAIRED", "WAITING", "UNREPAIRABLE", "LAST PASS"],
    ...scrub.map((row) => [
      row.name,
      row.running ? `${Math.floor(100 * row.progress)} %` : "idle",
      `${row.fragments} (${bytesText(row.bytes)})`,
      ...[row.damaged, row.repaired, row.waiting, row.unrepairable].map(String),
      row.lastPass?.endedAt ?? "-",
    ]),
  ]);
}

function cleanerTable(rows: readonly CleanerStatus[]): string {
  return table([
    ["CLEANER", "LEADER", "STATE", "SEGMENTS", "LIVE", "DEAD", "UTILISATION", "MOVED", "WON", "WRITE COST"],
    ...rows.map((row) => [
      row.group,
      row.leader ?? "-",
      row.state,
      row.segments === null ? "-" : String(row.segments),
      bytesText(row.liveBytes),
      bytesText(row.deadBytes),
      row.utilisation === null ? "-" : `${Math.floor(100 * row.utilisation)} %`,
      bytesText(row.bytesWritten),
      bytesText(row.bytesWon),
      row.writeCost.toFixed(2),
    ]),
  ]);
}

function writtenTable({ byMounts, byCleaners, byManagers, restored, all, amplification }: WrittenStatus): string {
  return table([
    ["WRITTEN", "BY MOUNTS", "BY CLEANERS", "BY MANAGERS", "RESTORED", "AMPLIFICATION"],
    [...[all, byMounts, byCleaners, byManagers, restored].map(bytesText), amplification === null ? "-" : amplification.toFixed(2)],
  ]);
}

function rebuildTable(rebuild: readonly RebuildRow[]): string {
  return table([
    ["REBUILD", "VERSIONS", "SEGMENTS", "LEFT", "RATE", "TIME LEFT", "LOST", "WAITS"],
    ...rebuild.map((row) => [
      row.group,
      row.versions.join(","),
      `${row.segments} (${bytesText(row.bytes)})`,
      `${row.segmentsLeft} (${bytesText(row.bytesLeft)})`,
      `${bytesText(row.bytesPerSecond)}/s`,
      row.secondsLeft === null ? "-" : `${row.secondsLeft} s`,
      String(row.lost),
      row.waits[0] ?? "-",
    ]),
  ]);
}

/** For people, on a terminal. */
export function statusText({
  members,
  groups,
  managers,
  keepers,
  mounts,
  scrub,
  cleaner,
  written,
  rebuild,
  warnings,
}: StatusDocument): string {
  const parts = [memberTable(members), groupTable(groups), managerTable(managers)];
  if (mounts.length > 0)
    parts.push(
      table([["MOUNT", "STATE", "PID", "MEMBER"], ...mounts.map((row) => [row.mountpoint, row.state, String(row.pid), row.member])]),
    );
  if (rebuild.length > 0) parts.push(rebuildTable(rebuild));
  if (scrub.length > 0) parts.push(scrubTable(scrub));
  if (cleaner.groups.length > 0) parts.push(cleanerTable(cleaner.groups));
  parts.push(writtenTable(written));
  parts.push(`the map is kept by ${keepers.length === 1 ? `${keepers[0]} alone: it has a single copy` : keepers.join(", ")}`);
  parts.push(warnings.length === 0 ? "all is well" : warningLines(warnings));
  return parts.join("\n\n");
}

export function warningLines(warnings: readonly string[]): string {
  return warnings.map((warning) => `warning: ${warning}`).join("\n");
}
