import { type Finding, type FsckReport, fsck, Problem, type Subject } from "@dazzle/fsck";
import { Progress, print, printJson } from "../output.ts";
import { realPorts } from "../ports.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { type Command, parse } from "../usage.ts";

/** Beside 1 and 2, which every command has; both where both are so. */
const EXIT = { clean: 0, problems: 4, unchecked: 8 } as const;
/** Findings that are told to a person; with --json all of them. */
const SHOWN = 1_000;

export const fsckCommand: Command = {
  help: `usage: dazzle fsck [--dir DIR | --cluster HOST:PORT] [--json]
Looks through the cluster while it is used, and says what is wrong: names, link counts and directories, files' extents, live bytes of segments.
It changes nothing. What changes while it is looked at is looked at again, and only what is wrong for certain is told.

${REACH_HELP}
  --json                    print one JSON document

Exit status: 0 clean, 4 something is wrong, 8 something could not be looked at (12 both), 1 it could not run, 2 wrong usage.`,

  async run(args) {
    const { values } = parse(args, { ...REACH_OPTIONS, json: { type: "boolean" } });
    const reach = await reachOf(values);
    const map = await newestMap(reach);
    const bars = new Bars();
    const report = await fsck({
      ports: realPorts(() => {}),
      map,
      seeds: reach.addresses,
      near: reach.near,
      onProgress: (what, done, total) => bars.show(what, done, total),
    }).finally(() => bars.end());
    const state = report.findings.length > 0 ? "damaged" : report.unchecked.length > 0 ? "unknown" : "clean";
    if (values.json === true) printJson({ state, ...report, findings: report.findings.map(shown), unsettled: report.unsettled.map(shown) });
    else tell(report);
    return (report.findings.length > 0 ? EXIT.problems : EXIT.clean) | (report.unchecked.length > 0 ? EXIT.unchecked : EXIT.clean);
  },
};

/** A bar for each thing that is looked through. */
class Bars {
  #what = "";
  #bar: Progress | null = null;

  show(what: string, done: number, total: number): void {
    if (what !== this.#what || done === 0) {
      this.#bar?.end();
      this.#what = what;
      this.#bar = new Progress(`checking ${what}`, total);
    }
    this.#bar?.step("", done);
  }

  end(): void {
    this.#bar?.end();
  }
}

function shown({ problem, subject, seen, path }: Finding): object {
  return { problem, ...subject, ...(path === undefined ? {} : { path: text(path) }), seen };
}

function tell({ findings, unsettled, unchecked, counts }: FsckReport): void {
  for (const finding of findings.slice(0, SHOWN)) print(`${named(finding)}: ${Problem[finding.problem]}: ${finding.seen}`);
  if (findings.length > SHOWN) print(`and ${findings.length - SHOWN} more: --json tells all`);
  for (const line of unchecked) print(`not looked at: ${line}`);
  if (unsettled.length > 0) print(`${unsettled.length} things changed each time they were looked at, and are not told about`);
  const looked = `${counts.files} files and directories, ${counts.names} names`;
  if (findings.length > 0) print(`${findings.length === 1 ? "one thing is" : `${findings.length} things are`} wrong: ${looked}`);
  else print(`${unchecked.length > 0 ? "nothing wrong was found" : "clean"}: ${looked}`);
}

function named({ subject, path }: { readonly subject: Subject; readonly path?: string }): string {
  const { ino, log, sequence } = subject;
  if (ino === undefined) return `segment ${log}/${sequence}`;
  return path === undefined ? `index number ${ino}` : `${text(path)} (index number ${ino})`;
}

/** Names are bytes, kept in latin1 characters; on a terminal none of them does anything. */
function text(path: string): string {
  const told = (character: string) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  return Buffer.from(path, "latin1")
    .toString()
    .replace(/\p{Cc}/gu, told);
}
