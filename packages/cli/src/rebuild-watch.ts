import { type ClusterMap, currentVersion, findMember, type Group } from "@dazzle/core";
import { outdatedVersions } from "@dazzle/log";
import type { RebuildStatus } from "@dazzle/node";
import { callOnce } from "./calls.ts";
import { bytesText } from "./figures.ts";
import { failure, Progress } from "./output.ts";
import { newestMap, type Reach } from "./reach.ts";

const LOOK_MS = 500;
const ANSWER_DEADLINE_MS = 3_000;
/** For so long no member need answer before the command gives up; what was begun goes on. */
const SILENCE_MS = 60_000;
const WAITS_SHOWN = 3;

/** How far a group's servers are together with what they move into its current version. */
export interface RebuildRow {
  readonly group: string;
  /** Obsolete versions that are to leave the map. */
  readonly versions: readonly number[];
  readonly segments: number;
  readonly bytes: number;
  readonly segmentsLeft: number;
  readonly bytesLeft: number;
  readonly bytesPerSecond: number;
  /** Null where nothing is left, or nothing moves. */
  readonly secondsLeft: number | null;
  /** Segments of which too little is left anywhere. */
  readonly lost: number;
  /** Names and what each waits for. */
  readonly waits: readonly string[];
}

/** A row for each group from which something is moved, of what its servers tell. */
export function rebuildRows(
  map: ClusterMap,
  told: readonly { readonly name: string; readonly rebuild: readonly RebuildStatus[] }[],
): RebuildRow[] {
  return map.groups.flatMap((group) => {
    const versions = outdatedVersions(map, group).map(({ version }) => version);
    if (versions.length === 0) return [];
    const parts = told.flatMap(({ name, rebuild }) => rebuild.filter((row) => row.group === group.name).map((row) => ({ name, ...row })));
    const sum = (of: (part: RebuildStatus) => number | null) => parts.reduce((total, part) => total + (of(part) ?? 0), 0);
    const bytesLeft = sum((part) => part.bytesLeft);
    const bytesPerSecond = sum((part) => part.bytesPerSecond);
    const waits = new Map<string, string[]>();
    for (const part of parts) for (const wait of part.waits) waits.set(wait, [...(waits.get(wait) ?? []), part.name]);
    return [
      {
        group: group.name,
        versions,
        segments: sum((part) => part.segments),
        bytes: sum((part) => part.bytes),
        segmentsLeft: sum((part) => part.segmentsLeft),
        bytesLeft,
        bytesPerSecond,
        secondsLeft: bytesLeft > 0 && bytesPerSecond > 0 ? Math.ceil(bytesLeft / bytesPerSecond) : null,
        lost: Math.max(0, ...parts.map((part) => part.lost)),
        waits: [...waits].map(([wait, names]) => `${names.join(", ")}: ${wait}`),
      },
    ];
  });
}

export interface Moved {
  readonly segments: number;
  readonly bytes: number;
}

/** Asks the members until `isOver` of the map, with a bar of what they move meanwhile. `waits`: what else is waited for. */
export async function watchRebuild(
  reach: Reach,
  what: string,
  isOver: (map: ClusterMap) => boolean,
  waits: (map: ClusterMap) => readonly string[] | Promise<readonly string[]>,
): Promise<Moved> {
  const bar = new RebuildProgress(what);
  let last: Moved = { segments: 0, bytes: 0 };
  try {
    for (let heardMs = Date.now(); ; await new Promise((resolve) => setTimeout(resolve, LOOK_MS))) {
      const map = await newestMap(reach).catch(() => undefined);
      if (map === undefined) {
        if (Date.now() - heardMs > SILENCE_MS)
          throw failure("no member answers any more: what was begun goes on when they are started again");
        continue;
      }
      heardMs = Date.now();
      if (isOver(map)) return last;
      const rows = rebuildRows(map, await askRebuild(map, reach));
      const segments = rows.reduce((sum, row) => sum + row.segments, 0);
      last = {
        segments: Math.max(last.segments, segments),
        bytes: Math.max(
          last.bytes,
          rows.reduce((sum, row) => sum + row.bytes, 0),
        ),
      };
      bar.show(rows, await waits(map));
    }
  } finally {
    bar.end();
  }
}

/** Resolves when no obsolete version is left of groups that were changed, and every server that they want is in them. */
export function watchGroups(reach: Reach, names: readonly string[], what: string): Promise<Moved> {
  const watched = ({ groups }: ClusterMap) => groups.filter(({ name }) => names.includes(name));
  return watchRebuild(
    reach,
    what,
    (map) => watched(map).every((group) => outdatedVersions(map, group).length === 0 && absentServers(map, group).length === 0),
    (map) =>
      watched(map)
        .flatMap((group) => absentServers(map, group))
        .map((server) => `${server} is not in the group yet, or not any more: is its node up?`),
  );
}

function absentServers(map: ClusterMap, group: Group): string[] {
  const { servers } = currentVersion(group);
  return group.wanted.filter((id) => !servers.some(({ member }) => member === id)).map((id) => findMember(map, id).name);
}

/** Before it is watched: what nobody can read any more. `lost`: segments, -1 where nobody can tell how many. */
export function lostText(server: string, lost: number): string {
  return `${lost < 0 ? "nobody can tell how many" : lost} segments are lost with ${server}: dazzle fsck --lost says which files`;
}

async function askRebuild(map: ClusterMap, reach: Reach): Promise<{ name: string; rebuild: readonly RebuildStatus[] }[]> {
  const asked = map.members.map(async ({ id, name, addresses }) => {
    const address = reach.near.get(id) ?? addresses[0];
    if (address === undefined) return { name, rebuild: [] };
    const { reply } = await callOnce(address, "status", {}, ANSWER_DEADLINE_MS).catch(() => ({ reply: undefined }));
    const document = reply?.document as { readonly rebuild?: readonly RebuildStatus[] } | undefined;
    return { name, rebuild: document?.rebuild ?? [] };
  });
  return Promise.all(asked);
}

/** A bar over the segments known by now. */
class RebuildProgress {
  readonly #what: string;
  #total = 1;
  #bar: Progress;

  constructor(what: string) {
    this.#what = what;
    this.#bar = this.#begin();
  }

  #begin(): Progress {
    return new Progress(`${this.#what}: segments`, this.#total);
  }

  show(rows: readonly RebuildRow[], more: readonly string[]): void {
    const sum = (of: (row: RebuildRow) => number) => rows.reduce((total, row) => total + of(row), 0);
    const total = Math.max(
      1,
      sum((row) => row.segments + row.segmentsLeft),
    );
    if (total !== this.#total) {
      this.#total = total;
      this.#bar.end();
      this.#bar = this.#begin();
    }
    const seconds = Math.max(0, ...rows.map(({ secondsLeft }) => secondsLeft ?? 0));
    const waits = [...rows.flatMap((row) => row.waits), ...more];
    const parts = [
      `${bytesText(sum((row) => row.bytes))}, ${bytesText(sum((row) => row.bytesPerSecond))}/s`,
      ...(seconds > 0 ? [`${seconds} s left`] : []),
      ...(waits.length > 0 ? [`waits: ${waits.slice(0, WAITS_SHOWN).join("; ")}`] : []),
    ];
    this.#bar.step(
      parts.join(", "),
      sum((row) => row.segments),
    );
  }

  end(): void {
    this.#bar.end();
  }
}
