import {
  type Clock,
  DazzleError,
  type Disk,
  type FragmentKey,
  type Handlers,
  isDazzleError,
  type Limits,
  type MapCache,
  type Peers,
  type Ports,
} from "@dazzle/core";
import { FragmentRebuilder } from "@dazzle/log";
import type { DamagedFragment, FragmentStore, UpkeepTarget } from "@dazzle/storage";
import { type FinishedPass, type Pass, type PassUnderWay, readScrubState, type ScrubState, writeScrubState } from "./scrub-state.ts";

/** A pass that somebody waits for reads so many times as much a second. */
const FAST = 32;
/** The disk is left alone for at least so long, once as much was read as that takes. */
const PAUSE_MIN_MS = 20;
/** While others use the server it pauses again, so many times in a row: then it goes on, lest it never end on a busy server. */
const YIELDS_MAX = 10;
const IDLE_MS = 1_000;
const SAVE_MS = 30_000;
const RETRY_FIRST_MS = 5_000;
const RETRY_MAX_MS = 600_000;
/** Failures that say what is there, before a fragment counts as unrepairable: what is deleted may be gone elsewhere first. */
const ANSWERS_MIN = 2;
const SUSPECTS_MAX = 10_000;
/** While so many are known, nobody's word adds another. */
const ASKED_MAX = 1_000;

export interface ScrubOptions {
  readonly store: FragmentStore;
  readonly disk: Disk;
  readonly map: MapCache;
  readonly peers: Peers;
  readonly ports: Pick<Ports, "clock" | "logger">;
  readonly limits: Limits;
}

/** How far a server has verified what it stores, for `dazzle status`. */
export interface ScrubStatus {
  /** The number of the pass under way, or of the last one; 0 before the first. */
  readonly pass: number;
  readonly running: boolean;
  /** Of that pass. */
  readonly fragments: number;
  readonly bytes: number;
  /** Of what is stored now, 0 to 1; 1 between two passes. */
  readonly progress: number;
  readonly last: FinishedPass | null;
  /** Since the store was made. */
  readonly damaged: number;
  readonly repaired: number;
  /** Damaged or unreadable now: what is to be repaired yet, and what can't be, as those say who have the rest. */
  readonly waiting: number;
  readonly unrepairable: number;
}

interface Suspect {
  readonly key: FragmentKey;
  /** It is damaged. */
  isFound: boolean;
  /** It could not be read: the next time that counts as damage. */
  isUnread: boolean;
  retryMs: number;
  retryAtMs: number;
  /** How often it could not be repaired, as those said who have the rest. */
  answers: number;
}

/** Verifies everything that this server stores, over and over, within a budget; and repairs what is damaged from the other servers' fragments,
 * whoever found it. */
export class Scrub {
  readonly #options: ScrubOptions;
  readonly #rebuilder: FragmentRebuilder;
  readonly #state: ScrubState;
  /** By name: what is to be looked at before anything else, and what is damaged. */
  readonly #suspects = new Map<string, Suspect>();
  #targets: readonly UpkeepTarget[] = [];
  #debtMs = 0;
  #savedAtMs: number;
  #changed = false;
  #stopped = false;
  /** Ends the pause that is on; whether there is nothing to do in it. */
  #cutShort: (() => void) | null = null;
  #isIdle = false;

  static async open(options: ScrubOptions): Promise<Scrub> {
    return new Scrub(options, await readScrubState(options.disk));
  }

  private constructor(options: ScrubOptions, state: ScrubState) {
    this.#options = options;
    this.#state = state;
    this.#rebuilder = new FragmentRebuilder(options);
    this.#savedAtMs = options.ports.clock.nowMs();
    for (const key of state.known) this.#suspect(key, true);
    options.store.upkeep.damages.onSuspect((key) => this.#suspect(keyOf(key)));
  }

  get status(): ScrubStatus {
    const { passes, pass, last, damaged, repaired } = this.#state;
    const found = [...this.#suspects.values()].filter(({ isFound, isUnread }) => isFound || isUnread);
    const unrepairable = found.filter(isUnrepairable).length;
    const { fragments, bytes } = pass ?? last ?? { fragments: 0, bytes: 0 };
    const progress = pass === null ? 1 : Math.min(1, fragments / Math.max(1, this.#options.store.stat().fragments));
    const waiting = found.length - unrepairable;
    return { pass: passes, running: pass !== null, fragments, bytes, progress, last, damaged, repaired, waiting, unrepairable };
  }

  readonly handlers: Handlers = {
    verifyFragment: ({ log, sequence, group, groupVersion, index }) => {
      const isKey = [log, sequence].every(isSafe) && [group, groupVersion].every(isSmall) && isSafe(index) && index < 256;
      if (!isKey) throw new DazzleError("badMessage", "this names no fragment");
      if (this.#suspects.size < ASKED_MAX) this.#suspect({ log, sequence, group, groupVersion, index });
      return { reply: {} };
    },
    scrub: () => {
      if (this.#state.pass?.fast !== true) this.#beginPass(true);
      this.#wake();
      return { reply: { pass: this.#state.passes } };
    },
  };

  start(): void {
    void this.#run();
  }

  /** Resolves when what was verified is remembered. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cutShort?.();
    if (this.#changed) await this.#save();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        const hadWork = await this.#step();
        if (this.#stopped) return;
        if (!hadWork) await this.#sleep(IDLE_MS, true);
        else if (this.#debtMs >= PAUSE_MIN_MS) await this.#pause();
        if (this.#changed && this.#clock.nowMs() >= this.#savedAtMs + SAVE_MS) await this.#save();
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        if (this.#stopped) return;
        this.#options.ports.logger("warning", "what is stored is not verified now", { reason: error.message });
        await this.#sleep(IDLE_MS, false);
      }
    }
  }

  get #clock(): Clock {
    return this.#options.ports.clock;
  }

  /** Looks at one fragment. Answers whether there was any. */
  async #step(): Promise<boolean> {
    const nowMs = this.#clock.nowMs();
    for (const suspect of this.#suspects.values())
      if (suspect.retryAtMs <= nowMs) {
        await this.#look(suspect);
        return true;
      }
    if (this.#state.pass === null && !this.#isDue()) return false;
    if (this.#state.pass === null) this.#beginPass(false);
    await this.#next();
    return true;
  }

  #isDue(): boolean {
    const { last } = this.#state;
    return last === null || Math.abs(this.#wallMs() - last.startedMs) >= this.#options.limits.scrubIntervalMs;
  }

  #wallMs(): number {
    return Number(this.#clock.wallTimeNs() / 1_000_000n);
  }

  #beginPass(fast: boolean): void {
    const { upkeep } = this.#options.store;
    this.#state.passes++;
    this.#state.pass = { startedMs: this.#wallMs(), until: upkeep.head, after: null, fast, fragments: 0, bytes: 0, damaged: 0 };
    this.#targets = [];
    this.#changed = true;
  }

  async #next(): Promise<void> {
    const { store } = this.#options;
    const pass = this.#state.pass as PassUnderWay;
    const [target, ...rest] = this.#targets;
    if (target === undefined) {
      const { targets, last } = await store.upkeep.targets(pass.after, pass.until);
      // Another pass may have been begun meanwhile.
      if (this.#state.pass !== pass) return;
      if (last === null) return this.#endPass();
      this.#targets = targets;
      if (targets.length === 0) {
        pass.after = last;
        this.#debtMs += PAUSE_MIN_MS;
      }
      return;
    }
    const isWhole = await this.#verify(target, pass);
    if (this.#state.pass !== pass) return;
    this.#targets = rest;
    pass.after = target.key;
    pass.fragments++;
    pass.bytes += target.bytes;
    this.#changed = true;
    if (!isWhole) this.#suspect(target.key);
  }

  async #verify({ key, bytes }: UpkeepTarget, pass: PassUnderWay): Promise<boolean> {
    try {
      const damaged = await this.#examine(key, bytes, pass.fast, false);
      if (damaged !== null) pass.damaged++;
      return damaged === null;
    } catch (error) {
      if (!isDazzleError(error, "diskFailed")) throw error;
      return false;
    }
  }

  async #endPass(): Promise<void> {
    const { logger } = this.#options.ports;
    const { startedMs, fragments, bytes, damaged } = this.#state.pass as Pass;
    this.#state.last = { startedMs, fragments, bytes, damaged, endedMs: this.#wallMs() };
    this.#state.pass = null;
    if (fragments > 0) logger("info", "everything stored was verified", { fragments, bytes, damaged });
    await this.#save();
  }

  #examine(key: FragmentKey, bytes: number, fast: boolean, unreadableIsDamaged: boolean): Promise<DamagedFragment | null> {
    this.#debtMs += (1_000 * bytes) / (this.#options.limits.scrubBytesPerSecond * (fast ? FAST : 1));
    return this.#options.store.upkeep.examine(key, unreadableIsDamaged);
  }

  async #look(suspect: Suspect): Promise<void> {
    let damaged: DamagedFragment | null;
    this.#changed = true;
    try {
      damaged = await this.#examine(suspect.key, this.#options.limits.fragmentBytes, true, suspect.isUnread);
    } catch (error) {
      if (!isDazzleError(error, "diskFailed")) throw error;
      suspect.isUnread = true;
      this.#later(suspect);
      return;
    }
    if (damaged === null) {
      this.#suspects.delete(nameOf(suspect.key));
      return;
    }
    if (!suspect.isFound) this.#state.damaged++;
    suspect.isFound = true;
    await this.#repair(suspect, damaged);
  }

  #later(suspect: Suspect): void {
    suspect.retryAtMs = this.#clock.nowMs() + suspect.retryMs;
    suspect.retryMs = Math.min(2 * suspect.retryMs, RETRY_MAX_MS);
  }

  async #repair(suspect: Suspect, damaged: DamagedFragment): Promise<void> {
    const { logger } = this.#options.ports;
    const { log, sequence, index } = suspect.key;
    const fields = { log, sequence, index };
    try {
      const data = Buffer.from(damaged.data);
      for (const { offset, length } of damaged.ranges) (await this.#rebuilder.rebuild(damaged.entry, offset, length)).copy(data, offset);
      const isHere = await this.#options.store.upkeep.repair(damaged, data);
      this.#suspects.delete(nameOf(suspect.key));
      if (isHere) {
        this.#state.repaired++;
        logger("info", "a damaged fragment was repaired", { ...fields, bytes: data.length });
      }
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      const reason = error.message;
      if (isDazzleError(error, "fragmentMissing", "segmentLost", "fragmentDamaged", "corrupt")) suspect.answers++;
      if (suspect.answers === ANSWERS_MIN) logger("error", "a damaged fragment can't be repaired", { ...fields, reason });
      else if (suspect.retryMs === RETRY_FIRST_MS) logger("warning", "a damaged fragment is not repaired yet", { ...fields, reason });
      this.#later(suspect);
    }
  }

  #suspect(key: FragmentKey, isFound = false): void {
    const name = nameOf(key);
    if (this.#suspects.has(name) || this.#suspects.size >= SUSPECTS_MAX) return;
    this.#suspects.set(name, { key, isFound, isUnread: isFound, retryMs: RETRY_FIRST_MS, retryAtMs: 0, answers: 0 });
    this.#wake();
  }

  /** Long enough for what was read; longer while others use the server. */
  async #pause(): Promise<void> {
    const pauseMs = this.#debtMs;
    this.#debtMs = 0;
    const { store } = this.#options;
    for (let turn = 0; turn < YIELDS_MAX && !this.#stopped; turn++) {
      const before = store.operations;
      await this.#sleep(pauseMs, false);
      if (store.operations === before) return;
    }
  }

  #sleep(delayMs: number, isIdle: boolean): Promise<void> {
    this.#isIdle = isIdle;
    return new Promise((resolve) => {
      const timer = this.#clock.after(delayMs, resolve);
      this.#cutShort = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  #wake(): void {
    if (this.#isIdle) this.#cutShort?.();
  }

  async #save(): Promise<void> {
    const { disk, ports } = this.#options;
    this.#changed = false;
    this.#savedAtMs = ports.clock.nowMs();
    this.#state.known = [...this.#suspects.values()].filter(({ isFound }) => isFound).map(({ key }) => key);
    try {
      await writeScrubState(disk, this.#state);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      ports.logger("warning", "how far what is stored was verified is not remembered", { reason: error.message });
    }
  }
}

const isSafe = (value: number) => Number.isSafeInteger(value) && value >= 0;
const isSmall = (value: number) => isSafe(value) && value < 2 ** 32;

function isUnrepairable({ answers }: Suspect): boolean {
  return answers >= ANSWERS_MIN;
}

function keyOf({ log, sequence, group, groupVersion, index }: FragmentKey): FragmentKey {
  return { log, sequence, group, groupVersion, index };
}

function nameOf({ log, sequence, group, groupVersion, index }: FragmentKey): string {
  return `${log} ${sequence} ${group} ${groupVersion} ${index}`;
}
