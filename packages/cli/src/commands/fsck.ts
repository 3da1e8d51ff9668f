import { LIMITS } from "@dazzle/core";
import { type Finding, type FsckReport, fsck, Problem, type Subject } from "@dazzle/fsck";
import { Progress, print, printJson } from "../output.ts";
import { realPorts } from "../ports.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { type Command, parse, UsageError } from "../usage.ts";

/** Beside 1 and 2, which every command has; both where both are so. */
const EXIT = { clean: 0, problems: 4, unchecked: 8 } as const;
/** Findings that are told to a person; with --json all of them. */
const SHOWN = 1_000;

const FLAG = { type: "boolean" } as const;
const OPTIONS = { ...REACH_OPTIONS, data: FLAG, lost: FLAG, repair: FLAG, json: FLAG } as const;

export const fsckCommand: Command = {
  help: `usage: dazzle fsck [--dir DIR | --cluster HOST:PORT] [--data] [--lost | --repair] [--json]
Looks through the cluster while it is used, and says what is wrong: names, link counts and directories, files' extents, live bytes of segments, what
managers have against what their logs say, and what storage servers hold of every segment, or hold though nobody needs it. It changes nothing without
--repair. What changes while it is looked at is looked at again, and only what is wrong for certain is told.

${REACH_HELP}
  --data                    read and verify all that is stored (default: the header and the first block of each fragment)
  --lost                    only tell what of which files can't be read any more
  --repair                  make good what parity can, fragments that are missing or damaged; and put names, link counts, index nodes, extents and live bytes
                            right: what no name leads to goes into /lost+found
  --json                    print one JSON document

Exit status: 0 clean, or all is repaired, 4 something is wrong, 8 something could not be looked at (12 both), 1 it could not run, 2 wrong usage.`,

  async run(args) {
    const { values } = parse(args, OPTIONS);
    if (values.lost === true && values.repair === true) throw new UsageError("--lost and --repair don't go together");
    const reach = await reachOf(values);
    const bars = new Bars();
    const report = await fsck({
      ports: realPorts(() => {}),
      map: await newestMap(reach),
      seeds: reach.addresses,
      near: reach.near,
      limits: LIMITS,
      depth: values.data === true ? "data" : "headers",
      storedOnly: values.lost === true,
      repair: values.repair === true,
      onProgress: (what, done, total, detail) => bars.show(what, done, total, detail),
    }).finally(() => bars.end());
    const isDamaged = values.lost === true ? report.lost.length > 0 : report.findings.length > 0;
    if (values.json === true) printJson(documentOf(report, values.lost === true));
    else tell(report, values.lost === true);
    return (isDamaged ? EXIT.problems : EXIT.clean) | (report.unchecked.length > 0 ? EXIT.unchecked : EXIT.clean);
  },
};

function documentOf({ findings, repaired, lost, unsettled, unchecked, counts }: FsckReport, lostOnly: boolean): object {
  const files = lost.map((range) => ({ ...range, ...(range.path === undefined ? {} : { path: text(range.path) }) }));
  const isDamaged = lostOnly ? lost.length > 0 : findings.length > 0;
  const state = isDamaged ? "damaged" : unchecked.length > 0 ? "unknown" : "clean";
  if (lostOnly) return { state, lost: files, unchecked };
  return {
    state,
    findings: findings.map(shown),
    repaired: repaired.map(shown),
    lost: files,
    unsettled: unsettled.map(shown),
    unchecked,
    counts,
  };
}

/** A bar for each thing that is looked through. */
class Bars {
  #what = "";
  #bar: Progress | null = null;

  show(what: string, done: number, total: number, detail: string): void {
    if (what !== this.#what || (done === 0 && detail === "")) {
      this.#bar?.end();
      this.#what = what;
      this.#bar = new Progress(`checking ${what}`, total);
    }
    this.#bar?.step(detail, done);
  }

  end(): void {
    this.#bar?.end();
  }
}

function shown({ problem, subject, seen, path }: Finding): object {
  return { problem, ...subject, ...(path === undefined ? {} : { path: text(path) }), seen };
}

function tell({ findings, repaired, lost, unsettled, unchecked, counts }: FsckReport, lostOnly: boolean): void {
  const lines = repaired.map((finding) => `repaired: ${named(finding)}: ${finding.seen}`);
  if (!lostOnly) for (const finding of findings) lines.push(`${named(finding)}: ${Problem[finding.problem]}: ${finding.seen}`);
  for (const { ino, path, from, to } of lost)
    lines.push(`${named({ subject: { ino }, ...(path === undefined ? {} : { path }) })}: bytes ${from} to ${to - 1} are lost`);
  for (const line of lines.slice(0, SHOWN)) print(line);
  if (lines.length > SHOWN) print(`and ${lines.length - SHOWN} more: --json tells all`);
  for (const line of unchecked) print(`not looked at: ${line}`);
  if (lostOnly) {
    if (lost.length === 0) print(unchecked.length > 0 ? "nothing that is lost was found" : "nothing is lost");
    return;
  }
  if (unsettled.length > 0) print(`${unsettled.length} things changed each time they were looked at, and are not told about`);
  const looked = `${counts.files} files and directories, ${counts.names} names, ${counts.segments} segments in ${counts.fragments} fragments`;
  if (findings.length > 0) print(`${findings.length === 1 ? "one thing is" : `${findings.length} things are`} wrong: ${looked}`);
  else print(`${unchecked.length > 0 ? "nothing wrong was found" : "clean"}: ${looked}`);
}

function named({ subject, path }: { readonly subject: Subject; readonly path?: string }): string {
  const { ino, log, sequence, server, index, slot } = subject;
  if (ino === undefined && sequence === undefined) return slot === undefined ? (server ?? "the cluster map") : `slot ${slot}`;
  if (ino === undefined) return `segment ${log}/${sequence}${server === undefined ? "" : `, fragment ${index} at ${server}`}`;
  return path === undefined ? `index number ${ino}` : `${text(path)} (index number ${ino})`;
}

/** Names are bytes, kept in latin1 characters; on a terminal none of them does anything. */
function text(path: string): string {
  const told = (character: string) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  return Buffer.from(path, "latin1")
    .toString()
    .replace(/\p{Cc}/gu, told);
}
