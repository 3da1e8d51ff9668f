import { utilisation, writeCost } from "@dazzle/cleaner";
import type { Group } from "@dazzle/core";
import { type CleanProgress, CleanRequest, isHindered } from "../clean-request.ts";
import { bytesText } from "../figures.ts";
import { failure, Progress, print, printJson } from "../output.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { type Command, parse, UsageError } from "../usage.ts";

const UNTIL = 0.9;

export const cleanCommand: Command = {
  help: `usage: dazzle clean [--group G] [--until U] [--dir DIR | --cluster HOST:PORT] [--json]
Moves what lives in segments together and wins the space of the rest, now and without pauses: until the share U of what the segments hold lives, or nothing is left
to win. The cleaners do so by themselves, at their leisure, and faster as space runs short. Interrupted, it stops what it has begun.

  --group G                 one stripe group (default: all)
  --until U                 from 0 to 1 (default ${UNTIL})
${REACH_HELP}
  --json                    print one JSON document`,

  async run(args) {
    const { values } = parse(args, { ...REACH_OPTIONS, group: { type: "string" }, until: { type: "string" }, json: { type: "boolean" } });
    const until = shareOf(values.until);
    const reach = await reachOf(values);
    const map = await newestMap(reach);
    const groups = map.groups.filter(({ name }) => values.group === undefined || name === values.group);
    if (groups.length === 0)
      throw failure(
        values.group === undefined
          ? "there is no stripe group yet: start the storage nodes"
          : `there is no group ${values.group}: there are ${map.groups.map(({ name }) => name).join(", ") || "none yet"}`,
      );
    let isStopped = false;
    process.on("SIGINT", () => {
      isStopped = true;
    });
    const progress = new Progress("in use: percent of what is wanted", 100);
    const latest = new Map<string, CleanProgress>();
    const done = await Promise.all(
      groups.map(async (group) => {
        const request = new CleanRequest(reach, map, group, until);
        const shows = (told: CleanProgress) => {
          latest.set(group.name, told);
          progress.step(lines(latest).join("; "), reached([...latest.values()], until));
        };
        return { group, told: await request.run(() => isStopped, shows) };
      }),
    ).finally(() => progress.end());
    if (values.json === true) printJson({ groups: done.map(({ group, told }) => documentOf(group, told)) });
    else for (const { group, told } of done) print(summary(group.name, told));
    if (isStopped) throw failure("it was interrupted, and has stopped: what was moved stays where it is");
    const hindered = done.filter(({ told }) => isHindered(told));
    if (hindered.length > 0)
      throw failure(
        `for two minutes nothing could be cleaned: ${hindered.map(({ group, told }) => `${group.name}: ${told.hindrance}`).join("; ")}`,
      );
    const skipped = done.reduce((sum, { told }) => sum + told.skipped, 0);
    if (skipped > 0) throw failure(`${skipped} segments could not be cleaned: the cleaners' logs say why`);
    return 0;
  },
};

function shareOf(text: string | undefined): number {
  const share = text === undefined ? UNTIL : Number(text);
  if (text === "" || !(share >= 0 && share <= 1)) throw new UsageError(`--until takes a share from 0 to 1, not "${text}"`);
  return share;
}

function usedOf({ storedBytes, liveBytes }: CleanProgress): number {
  return utilisation({ bytes: storedBytes, liveBytes });
}

/** How far the group is that is least far, in percent of what is wanted. */
function reached(groups: readonly CleanProgress[], until: number): number {
  return Math.min(...groups.map((told) => (told.done ? 100 : Math.min(99, Math.floor((100 * usedOf(told)) / Math.max(until, 0.01))))));
}

function work(told: CleanProgress): string {
  const cost = writeCost(told).toFixed(2);
  return `${told.segments} segments, ${bytesText(told.bytesWritten)} moved, ${bytesText(told.bytesWon)} won, write cost ${cost}`;
}

function lines(groups: ReadonlyMap<string, CleanProgress>): string[] {
  return [...groups].map(([name, told]) => `${name}: ${work(told)}`);
}

function summary(name: string, told: CleanProgress): string {
  const used = `${Math.floor(100 * usedOf(told))} % of ${bytesText(told.storedBytes)} in ${told.stored} segments lives`;
  return told.segments === 0 ? `${name}: nothing to win; ${used}` : `${name}: ${work(told)}; ${used}`;
}

function documentOf({ name }: Group, told: CleanProgress) {
  const { stored, hindrance, hinderedMs: _, ...tally } = told;
  const figures = { utilisation: usedOf(told), writeCost: writeCost(told) };
  return { name, segmentsStored: stored, ...tally, ...figures, hindrance: isHindered(told) ? hindrance : null };
}
