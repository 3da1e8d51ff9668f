import {
  type Address,
  type ClusterMap,
  findLog,
  isDazzleError,
  type Limits,
  MapCache,
  MapRegister,
  Peers,
  type Ports,
  sleep,
  slotOf,
  someAtOnce,
} from "@dazzle/core";
import { Amender } from "./amender.ts";
import { judge, type Look } from "./certainty.ts";
import { checkFiles } from "./files.ts";
import { ManagerImaps } from "./imaps.ts";
import { LoggedCheck } from "./logged.ts";
import { LogsCheck } from "./logs.ts";
import { type LostRange, lostRanges } from "./lost-files.ts";
import type { Reach } from "./managers.ts";
import { checkMapAndStores } from "./map-check.ts";
import { MetadataRepair } from "./metadata-repair.ts";
import { countNames, slots } from "./names.ts";
import { Paths } from "./paths.ts";
import { type Finding, type Suspicion, suspicionKey } from "./problems.ts";
import { Repair } from "./repair.ts";
import { settle } from "./settling.ts";
import type { Depth } from "./stripes.ts";

/** Slots whose files are looked at beside one another. */
const FILES_AT_ONCE = 4;
/** Findings, and files that are lost, of which the paths are looked for. */
const PATHS_MAX = 1_000;
/** Each may lay open more: names in a directory that was lost, say. */
const REPAIR_PASSES_MAX = 12;
/** Looks in which a repair must show. */
const REPAIR_LOOKS_MAX = 10;
/** What is stored changes with who writes, moves and recovers it; what is not needed any more is deleted within some seconds. */
const STORED_MS = 2_000;
const DELETED_MS = 30_000;

/** Which part is looked at, and how far that is; `detail`: what more can be told. */
export type OnProgress = (what: string, done: number, total: number, detail: string) => void;

export interface FsckOptions {
  readonly ports: Pick<Ports, "clock" | "network" | "random" | "logger">;
  /** As it was read from some member. */
  readonly map: ClusterMap;
  readonly seeds: readonly Address[];
  readonly limits: Limits;
  /** Sockets of members on this machine. */
  readonly near?: ReadonlyMap<number, Address>;
  /** How much of what is stored is read. */
  readonly depth: Depth;
  /** Make good what parity can, and what names, counts and extents say against one another. */
  readonly repair?: boolean;
  /** Leave out names and files. */
  readonly storedOnly?: boolean;
  readonly onProgress?: OnProgress;
}

export interface FsckReport {
  readonly findings: readonly Finding[];
  /** What was wrong, and was made good. */
  readonly repaired: readonly Finding[];
  /** What can't be read of which files. */
  readonly lost: ReadonlyArray<LostRange & { readonly path?: string }>;
  /** What changed each time it was looked at: nothing is said of it. */
  readonly unsettled: readonly Suspicion[];
  /** What could not be looked at, and why. */
  readonly unchecked: readonly string[];
  readonly counts: {
    readonly files: number;
    readonly directories: number;
    readonly names: number;
    readonly segments: number;
    readonly fragments: number;
    /** That were read of the fragments' data. */
    readonly bytes: number;
  };
}

/** Looks through a cluster that is in use, and changes nothing but what is to be repaired. Rejects where its map can't be read. */
export async function fsck(options: FsckOptions): Promise<FsckReport> {
  const { clock, network } = options.ports;
  const register: MapRegister = new MapRegister({ ...options.ports, map: options.map, seeds: options.seeds, peers: () => peers });
  const map = new MapCache(register, options.map);
  const near = options.near === undefined ? {} : { near: options.near };
  const peers: Peers = new Peers({ network, clock, map, handlers: {}, self: null, ...near });
  try {
    await map.refresh();
    return await new Fsck({ map, peers, clock }, options).run(options.storedOnly === true);
  } finally {
    peers.close();
  }
}

class Fsck {
  readonly #reach: Reach;
  readonly #options: FsckOptions;
  readonly #imaps: ManagerImaps;
  #findings: Finding[] = [];
  readonly #repaired: Finding[] = [];
  #unsettled: Suspicion[] = [];
  readonly #unchecked = new Set<string>();
  #counts: FsckReport["counts"] = { files: 0, directories: 0, names: 0, segments: 0, fragments: 0, bytes: 0 };

  constructor(reach: Reach, options: FsckOptions) {
    this.#reach = reach;
    this.#options = options;
    this.#imaps = new ManagerImaps(reach);
  }

  async run(storedOnly: boolean): Promise<FsckReport> {
    if (!storedOnly) await this.#judgeMetadata();
    if (this.#options.repair === true) await this.#tried("what is repaired", () => this.#repairMetadata());
    if (!storedOnly) await this.#tried("what the logs say", () => this.#judgeLogged());
    await this.#tried("what is stored", () => this.#judgeStored());
    const paths = new Paths(this.#imaps);
    const findings: Finding[] = [];
    for (const finding of this.#findings) findings.push(await this.#withPath(paths, finding.subject.ino, findings.length, finding));
    const lost: Array<LostRange & { readonly path?: string }> = [];
    await this.#tried("what is lost", async () => {
      const segments = findings.filter(({ problem }) => problem === "segmentLost");
      for (const range of await lostRanges(this.#imaps, segments)) lost.push(await this.#withPath(paths, range.ino, lost.length, range));
    });
    const repaired: Finding[] = [];
    for (const finding of this.#repaired) repaired.push(await this.#withPath(paths, finding.subject.ino, repaired.length, finding));
    return { findings, repaired, lost, unsettled: this.#unsettled, unchecked: [...this.#unchecked], counts: this.#counts };
  }

  /** Answers whether all of it could be looked at. */
  async #judgeMetadata(): Promise<boolean> {
    const names = await this.#tried("names", () => this.#judge(() => this.#lookAtNames()));
    const files = await this.#tried("files", () => this.#judge((again) => this.#lookAtFiles(again)));
    return names && files;
  }

  /** Repairs and looks again, until nothing is wrong or nothing more can be done: where nothing could be done about the same twice. After the first time another fsck may
   * have done it. */
  async #repairMetadata(): Promise<void> {
    const amender = new Amender(this.#reach);
    const repair = new MetadataRepair({ ...this.#reach, imaps: this.#imaps, amender });
    const did = new Map<string, Finding>();
    let before = new Set<string>();
    try {
      for (let passes = 0; passes < REPAIR_PASSES_MAX && this.#findings.length > 0; passes++) {
        const [findings, unsettled] = [this.#findings, this.#unsettled];
        const done = await repair.repair(findings);
        if (done.size === 0 && findings.every((finding) => before.has(suspicionKey(finding)))) break;
        before = new Set(findings.map(suspicionKey));
        for (const finding of done.size === 0 ? [] : findings) {
          const told = done.get(finding);
          if (told !== undefined) did.set(suspicionKey(finding), { ...finding, seen: `${finding.seen}: ${told}` });
          else if (!did.has(suspicionKey(finding))) did.set(suspicionKey(finding), finding);
        }
        this.#findings = [];
        this.#unsettled = [];
        if (await this.#judgeMetadata()) continue;
        // What was done is not seen: it counts as it was before.
        this.#findings = findings;
        this.#unsettled = unsettled;
        break;
      }
    } finally {
      const left = new Set([...this.#findings, ...this.#unsettled].map(suspicionKey));
      for (const [key, finding] of did) if (!left.has(key)) this.#repaired.push(finding);
    }
  }

  /** What can't be looked at keeps nobody from looking at the rest. Answers whether it could. */
  async #tried(what: string, look: () => Promise<void>): Promise<boolean> {
    try {
      await look();
      return true;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      this.#unchecked.add(`${what}: ${error.message}`);
      return false;
    }
  }

  async #judge(look: Look, waitMs: (suspicions: Iterable<Suspicion>) => number = () => 0): Promise<void> {
    const { certain, unsettled, overflowed } = await judge(look, (suspicions) => this.#settled(waitMs(suspicions)));
    this.#findings.push(...certain);
    this.#unsettled.push(...unsettled);
    if (overflowed) this.#unchecked.add("too much changed while it was looked at: some of what looked wrong was not looked at again");
  }

  async #settled(waitMs: number): Promise<boolean> {
    if (waitMs > 0) await sleep(this.#reach.clock, waitMs);
    const late = await settle(this.#reach);
    for (const log of late) {
      const label = findLog(this.#reach.map.current, log)?.label ?? "";
      this.#unchecked.add(
        `the mount ${label} (log ${log}) did not hand over in time what it has done: what it changed last was not checked`,
      );
    }
    return late.length === 0;
  }

  async #lookAtNames(): Promise<Iterable<Suspicion>> {
    const done = this.#begin("names", slots().length);
    const count = await countNames(this.#imaps, done);
    this.#counts = { ...this.#counts, files: count.files, directories: count.directories, names: count.names };
    return count.suspicions();
  }

  async #lookAtFiles(again: readonly Suspicion[] | null): Promise<Suspicion[]> {
    const concerned = again === null ? slots() : [...new Set(again.map(({ subject }) => subject.slot ?? slotOf(subject.ino as number)))];
    const done = this.#begin("files", concerned.length);
    const found: Suspicion[] = [];
    await someAtOnce(FILES_AT_ONCE, concerned, async (slot) => {
      for (const suspicion of await checkFiles(this.#imaps, slot)) found.push(suspicion);
      done();
    });
    return found;
  }

  async #judgeLogged(): Promise<void> {
    const check = new LoggedCheck(this.#reach, this.#imaps, this.#options.limits, this.#options.ports.logger);
    const look: Look = (again) => check.look(again, (total) => this.#begin("what the logs say", total));
    await this.#judge(look, () => STORED_MS);
    for (const [member, reason] of check.unreadable)
      this.#unchecked.add(`what the logs say of the slots of ${this.#nameOf(member)}: ${reason}`);
  }

  #nameOf(member: number): string {
    return this.#reach.map.current.members.find(({ id }) => id === member)?.name ?? `member ${member}`;
  }

  async #judgeStored(): Promise<void> {
    const check = new LogsCheck(this.#reach, this.#imaps, this.#options.depth);
    const look: Look = async (again) => {
      const { found, counts } = await check.look(again, (total) => this.#begin("what is stored", total));
      if (again === null) this.#counts = { ...this.#counts, ...counts };
      return found;
    };
    try {
      await this.#judge(async () => checkMapAndStores(await this.#reach.map.refresh(), check.servers));
      await this.#judge(look, (suspicions) => {
        for (const { problem } of suspicions) if (problem === "strayFragments") return DELETED_MS;
        return STORED_MS;
      });
      if (this.#options.repair === true) await this.#repair(check);
    } finally {
      for (const [member, reason] of check.servers.silent)
        this.#unchecked.add(`what ${this.#nameOf(member)} stores: it does not answer (${reason})`);
    }
  }

  /** What parity can make good, of segments that are not lost. */
  async #repair(check: LogsCheck): Promise<void> {
    const lost = new Set(this.#findings.filter(({ problem }) => problem === "segmentLost").map(segmentOf));
    const isRepairable = (finding: Finding) =>
      (finding.problem === "fragmentMissing" || finding.problem === "fragmentDamaged") && !lost.has(segmentOf(finding));
    const damage = this.#findings.filter(isRepairable);
    if (damage.length === 0) return;
    const repair = new Repair(this.#reach, this.#options.limits, this.#options.ports.logger);
    await repair.repair(damage, this.#begin("what is repaired", new Set(damage.map(segmentOf)).size));
    const silent = check.servers.silent.size;
    let left = new Set(damage.map(suspicionKey));
    for (let looks = 0; left.size > 0 && looks < REPAIR_LOOKS_MAX; looks++) {
      await sleep(this.#reach.clock, STORED_MS);
      const { found } = await check.look(damage, () => () => {});
      // What is not found may lie at who does not answer any more.
      if (check.servers.silent.size > silent) break;
      left = new Set(found.map(suspicionKey));
    }
    const isLeft = (finding: Finding) => left.has(suspicionKey(finding));
    this.#repaired.push(...damage.filter((finding) => !isLeft(finding)));
    this.#findings = this.#findings.filter((finding) => !isRepairable(finding) || isLeft(finding));
  }

  /** Answers whom to tell of each that is done, or of a detail. */
  #begin(what: string, total: number): (detail?: string) => void {
    let done = 0;
    this.#options.onProgress?.(what, done, total, "");
    return (detail) => {
      if (detail === undefined) done++;
      this.#options.onProgress?.(what, done, total, detail ?? "");
    };
  }

  async #withPath<Told extends object>(
    paths: Paths,
    ino: number | undefined,
    index: number,
    told: Told,
  ): Promise<Told & { path?: string }> {
    if (ino === undefined || index >= PATHS_MAX) return told;
    const path = await paths.of(ino).catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
      return undefined;
    });
    return path === undefined ? told : { ...told, path };
  }
}

function segmentOf({ subject }: Finding): string {
  return `${subject.log}/${subject.sequence}`;
}
