import {
  type Address,
  type Clock,
  type ClusterMap,
  findLog,
  isDazzleError,
  MapCache,
  MapRegister,
  Peers,
  type Ports,
  slotOf,
} from "@dazzle/core";
import { eachAtOnce } from "./at-once.ts";
import { type Judged, judge, type Look } from "./certainty.ts";
import { checkFiles } from "./files.ts";
import { ManagerImaps } from "./imaps.ts";
import { countNames, slots } from "./names.ts";
import { Paths } from "./paths.ts";
import type { Finding, Suspicion } from "./problems.ts";
import { Settling } from "./settling.ts";

/** Slots whose files are looked at beside one another. */
const FILES_AT_ONCE = 4;
/** Findings of which the paths are looked for. */
const PATHS_MAX = 1_000;

export interface FsckOptions {
  readonly ports: Pick<Ports, "clock" | "network" | "random" | "logger">;
  /** As it was read from some member. */
  readonly map: ClusterMap;
  readonly seeds: readonly Address[];
  /** Sockets of members on this machine. */
  readonly near?: ReadonlyMap<number, Address>;
  readonly onProgress?: (what: string, done: number, total: number) => void;
}

export interface FsckReport {
  readonly findings: readonly Finding[];
  /** What changed each time it was looked at: nothing is said of it. */
  readonly unsettled: readonly Suspicion[];
  /** What could not be looked at, and why. */
  readonly unchecked: readonly string[];
  readonly counts: { readonly files: number; readonly directories: number; readonly names: number };
}

/** Looks through a cluster that is in use, and changes nothing. Rejects where its map or metadata can't be read. */
export async function fsck(options: FsckOptions): Promise<FsckReport> {
  const { clock, network } = options.ports;
  const register: MapRegister = new MapRegister({ ...options.ports, map: options.map, seeds: options.seeds, peers: () => peers });
  const map = new MapCache(register, options.map);
  const near = options.near === undefined ? {} : { near: options.near };
  const peers: Peers = new Peers({ network, clock, map, handlers: {}, self: null, ...near });
  try {
    await map.refresh();
    return await new Fsck({ map, peers, clock, onProgress: options.onProgress ?? (() => {}) }).run();
  } finally {
    peers.close();
  }
}

interface Reach {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly onProgress: (what: string, done: number, total: number) => void;
}

function slotOfSubject({ subject }: Suspicion): number {
  return subject.slot ?? slotOf(subject.ino as number);
}

class Fsck {
  readonly #options: Reach;
  readonly #imaps: ManagerImaps;
  readonly #settling: Settling;
  readonly #findings: Finding[] = [];
  readonly #unsettled: Suspicion[] = [];
  readonly #unchecked = new Set<string>();
  readonly #counts = { files: 0, directories: 0, names: 0 };

  constructor(options: Reach) {
    this.#options = options;
    this.#imaps = new ManagerImaps(options);
    this.#settling = new Settling(options);
  }

  async run(): Promise<FsckReport> {
    await this.#judge(() => this.#lookAtNames());
    await this.#judge((again) => this.#lookAtFiles(again));
    await this.#namePaths();
    return { findings: this.#findings, unsettled: this.#unsettled, unchecked: [...this.#unchecked], counts: this.#counts };
  }

  async #judge(look: Look): Promise<void> {
    const { certain, unsettled, overflowed }: Judged = await judge(look, () => this.#settle());
    this.#findings.push(...certain);
    this.#unsettled.push(...unsettled);
    if (overflowed) this.#unchecked.add("too much changed while it was looked at: some of what looked wrong was not looked at again");
  }

  async #settle(): Promise<boolean> {
    const late = await this.#settling.settle();
    for (const log of late) {
      const label = findLog(this.#options.map.current, log)?.label ?? "";
      this.#unchecked.add(
        `the mount ${label} (log ${log}) did not hand over in time what it has done: what it changed last was not checked`,
      );
    }
    return late.length === 0;
  }

  async #lookAtNames(): Promise<Iterable<Suspicion>> {
    const done = this.#begin("names", slots().length);
    const count = await countNames(this.#imaps, done);
    Object.assign(this.#counts, { files: count.files, directories: count.directories, names: count.names });
    return count.suspicions();
  }

  async #lookAtFiles(again: readonly Suspicion[] | null): Promise<Suspicion[]> {
    const concerned = again === null ? slots() : [...new Set(again.map(slotOfSubject))];
    const done = this.#begin("files", concerned.length);
    const found: Suspicion[] = [];
    await eachAtOnce(FILES_AT_ONCE, concerned, async (slot) => {
      for (const suspicion of await checkFiles(this.#imaps, slot)) found.push(suspicion);
      done();
    });
    return found;
  }

  #begin(what: string, total: number): () => void {
    let done = 0;
    this.#options.onProgress(what, done, total);
    return () => this.#options.onProgress(what, ++done, total);
  }

  async #namePaths(): Promise<void> {
    const paths = new Paths(this.#imaps);
    for (const [index, finding] of this.#findings.slice(0, PATHS_MAX).entries()) {
      const { ino } = finding.subject;
      if (ino === undefined) continue;
      const path = await paths.of(ino).catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
        return undefined;
      });
      if (path !== undefined) this.#findings[index] = { ...finding, path };
    }
  }
}
