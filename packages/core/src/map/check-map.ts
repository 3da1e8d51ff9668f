import { DATA_FRAGMENTS_MAX, PARITY_MAX } from "../erasure.ts";
import { DazzleError } from "../errors.ts";
import { SLOTS } from "../ids.ts";
import { type ClusterMap, findLog, type GroupVersionRow, KEEPERS_CHOICES, type LogState, MAP_FORMAT } from "./cluster-map.ts";
import { isSameSet, KEEPERS_MAX, keepersOf } from "./voters.ts";

const STATE_ORDER: Readonly<Record<LogState, number>> = { live: 0, expelled: 1, ended: 2, closed: 3 };

function require(condition: boolean, message: string): asserts condition {
  if (!condition) throw new DazzleError("badMessage", `the cluster map is wrong: ${message}`);
}

function requireUnique(ids: readonly number[], next: number, what: string): void {
  require(new Set(ids).size === ids.length, `${what} is there twice`);
  for (const id of ids) require(Number.isSafeInteger(id) && id > 0 && id < next, `${what} ${id} is not below the next one, ${next}`);
}

function isShape({ dataFragments: data, parityFragments: parity }: GroupVersionRow): boolean {
  return (
    data >= 1 &&
    data <= DATA_FRAGMENTS_MAX &&
    parity >= 0 &&
    parity <= PARITY_MAX &&
    Number.isSafeInteger(data) &&
    Number.isSafeInteger(parity)
  );
}

function isDataMax(data: number): boolean {
  return Number.isSafeInteger(data) && data >= 1 && data <= DATA_FRAGMENTS_MAX;
}

/** Throws `badMessage` where `map` contradicts itself. */
export function checkMap(map: ClusterMap): void {
  require(map.format === MAP_FORMAT, `format ${String(map.format)}`);
  require(/^[0-9a-f]{32}$/.test(map.clusterId), "the cluster id");
  require(Number.isSafeInteger(map.version) && map.version > 0, "the version");
  const members = map.members.map((row) => row.id);
  requireUnique(members, map.nextMember, "a member");
  require(map.keepers.length % 2 === 1 && map.keepers.length <= KEEPERS_MAX, `${map.keepers.length} keepers`);
  require(map.keepersAsked === undefined || KEEPERS_CHOICES.includes(map.keepersAsked), `${map.keepersAsked} keepers are asked for`);
  for (const set of [map.keepers, map.formerKeepers]) requireUnique(set, map.nextMember, "a keeper");
  for (const keeper of keepersOf(map)) require(members.includes(keeper), `keeper ${keeper} is no member`);
  requireUnique(
    map.logs.map((row) => row.id),
    map.nextLog,
    "a log",
  );
  requireUnique(
    map.groups.map((row) => row.id),
    Number.MAX_SAFE_INTEGER,
    "a group",
  );
  for (const group of map.groups) {
    require(group.versions.length > 0, `group ${group.id} has no version`);
    require(group.dataMax === undefined || isDataMax(group.dataMax), `group ${group.id} is to have ${group.dataMax} data fragments`);
    for (const [index, version] of group.versions.entries()) {
      const before = group.versions[index - 1];
      require(before === undefined || before.version < version.version, `group ${group.id}'s versions don't ascend`);
      require(isShape(version), `group ${group.id} is striped ${version.dataFragments}+${version.parityFragments}`);
      require(version.servers.length >= version.dataFragments + version.parityFragments, `group ${group.id} is narrower than its stripes`);
    }
  }
  require(map.slots.length === SLOTS, `${map.slots.length} slots`);
  for (const [slot, row] of map.slots.entries()) {
    require(row.manager === null || members.includes(row.manager), `slot ${slot} belongs to nobody known`);
    require(Number.isSafeInteger(row.term) && row.term > 0, `slot ${slot}'s term`);
  }
  for (const log of map.logs) {
    const decided = log.state === "ended" || log.state === "closed";
    require(log.state in STATE_ORDER, `log ${log.id} is ${log.state}`);
    require(decided === (log.end !== null), `log ${log.id} is ${log.state} with the end ${log.end}`);
  }
}

/** Throws `badMessage` where `next` may not follow `map`: what was decided stays decided. */
export function checkSuccessor(map: ClusterMap, next: ClusterMap): void {
  checkMap(next);
  require(next.clusterId === map.clusterId, "it is of another cluster");
  require(next.version === map.version + 1, `version ${next.version} follows ${map.version}`);
  require(next.nextLog >= map.nextLog && next.nextMember >= map.nextMember, "an id would be given twice");
  requireKeepersFollow(map, next);
  for (const [slot, row] of next.slots.entries()) require(row.term >= map.slots[slot]!.term, `slot ${slot}'s term goes back`);
  for (const log of next.logs) {
    const before = findLog(map, log.id);
    require(before !== undefined || log.id >= map.nextLog, `log ${log.id} had left the map`);
    if (before === undefined) continue;
    require(STATE_ORDER[log.state] >= STATE_ORDER[before.state], `log ${log.id} goes back from ${before.state} to ${log.state}`);
    require(before.end === null || before.end === log.end, `log ${log.id}'s end is decided once`);
  }
}

/** One set at a time: the next one joins the one before, is decided by both, and then stays alone (rule 33). */
function requireKeepersFollow(map: ClusterMap, next: ClusterMap): void {
  const stays = isSameSet(map.keepers, next.keepers);
  if (stays && isSameSet(map.formerKeepers, next.formerKeepers)) return;
  const begins = map.formerKeepers.length === 0 && isSameSet(next.formerKeepers, map.keepers);
  const ends = stays && next.formerKeepers.length === 0;
  require(begins || ends, `keepers ${next.keepers} (${next.formerKeepers}) after ${map.keepers} (${map.formerKeepers})`);
}
