import {
  assert,
  type Clock,
  DazzleError,
  type GroupId,
  type LogAddress,
  type MapCache,
  type SegmentClass,
  type SegmentRecord,
  withLog,
} from "@dazzle/core";
import type { LogListing } from "@dazzle/log";
import type { JournalWriter } from "../../src/journal.ts";
import type { LogAccess } from "../../src/log-access.ts";

interface Segment {
  readonly sequence: number;
  readonly payload: Buffer;
  readonly records: readonly SegmentRecord[];
}

interface StoredLog {
  readonly stable: Map<number, Segment>;
  stableSequence: number;
  trimmedTo: number;
}

const CAPACITY = 64 * 1024;
const RESERVE = 1024 * 1024;

/** A log in memory. Segments become stable a while after they are sealed, in order; `cut` loses the rest. */
export class MemoryWriter implements JournalWriter {
  readonly log: number;
  readonly openPlacement = { group: 1 as GroupId, groupVersion: 1 };
  readonly #store: StoredLog;
  readonly #clock: Clock;
  readonly #listeners: Array<() => void> = [];
  #pending: Segment[] = [];
  #waiters: Array<{ sequence: number; resolve: () => void; reject: (error: unknown) => void }> = [];
  #payload = Buffer.alloc(CAPACITY + RESERVE);
  #used = 0;
  #sequence = 1;
  #trimmedTo = 0;
  failure: DazzleError | null = null;
  openBytes = 0;
  #silent = false;

  constructor(log: number, store: StoredLog, clock: Clock) {
    this.log = log;
    this.#store = store;
    this.#clock = clock;
  }

  get openSequence(): number {
    return this.#sequence;
  }

  get stableSequence(): number {
    return this.#store.stableSequence;
  }

  get trimmedTo(): number {
    return this.#trimmedTo;
  }

  set trimmedTo(sequence: number) {
    assert(sequence <= this.stableSequence, "only what is stable is trimmed");
    this.#trimmedTo = Math.max(this.#trimmedTo, sequence);
  }

  get ready(): boolean {
    return true;
  }

  whenReady(): Promise<void> {
    return Promise.resolve();
  }

  place(length: number, reserve = false) {
    const offset = Math.ceil(this.#used / 8) * 8;
    if (offset + length > CAPACITY + (reserve ? RESERVE : 0)) return undefined;
    this.#used = offset + length;
    return { offset, bytes: this.#payload.subarray(offset, this.#used) };
  }

  seal(records: readonly SegmentRecord[], _options: { readonly class: SegmentClass; readonly urgent: boolean }) {
    const sequence = this.#sequence++;
    this.#pending.push({ sequence, payload: Buffer.from(this.#payload.subarray(0, this.#used)), records: [...records] });
    this.#payload.fill(0xee, 0, this.#used);
    this.#used = 0;
    this.#clock.after(1, () => this.#storeOne());
    return { sequence, payloadBytes: 0, stable: Promise.resolve(), group: 1, groupVersion: 1 };
  }

  #storeOne(): void {
    if (this.#silent) return;
    const segment = this.#pending.shift();
    if (segment === undefined || this.failure !== null) return;
    this.#store.stable.set(segment.sequence, segment);
    this.#store.stableSequence = segment.sequence;
    // Headers carry it.
    this.#store.trimmedTo = Math.max(this.#store.trimmedTo, this.#trimmedTo);
    for (const listener of this.#listeners) listener();
    this.#waiters = this.#waiters.filter(({ sequence, resolve }) => {
      if (sequence > segment.sequence) return true;
      resolve();
      return false;
    });
  }

  flush(sequence: number): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure);
    if (sequence <= this.stableSequence) return Promise.resolve();
    if (this.#silent) return Promise.reject(silent());
    return new Promise((resolve, reject) => this.#waiters.push({ sequence, resolve, reject }));
  }

  /** Nothing more becomes stable: whoever waits for it is turned away, as after the deadline. */
  silence(): void {
    this.#silent = true;
    for (const { reject } of this.#waiters) reject(silent());
    this.#waiters = [];
  }

  read(sequence: number, offset: number, length: number): Buffer | undefined {
    if (sequence === this.#sequence) return this.#payload.subarray(offset, offset + length);
    return this.#pending.find((segment) => segment.sequence === sequence)?.payload.subarray(offset, offset + length);
  }

  onStable(listener: () => void): void {
    this.#listeners.push(listener);
  }

  cut(): void {
    this.failure ??= new DazzleError("expelled", "the log was cut");
    this.#pending = [];
    for (const { reject } of this.#waiters) reject(this.failure);
    this.#waiters = [];
  }

  async close(): Promise<void> {
    this.cut();
  }
}

function silent(): DazzleError {
  return new DazzleError("unreachable", "storage is silent");
}

/** Logs that outlive their writers. */
export class MemoryLogs {
  readonly #logs = new Map<number, StoredLog>();
  readonly writers = new Map<number, MemoryWriter>();
  reads = 0;
  /** What servers say. */
  room = () => Number.MAX_SAFE_INTEGER;
  leastRoom = 0;
  /** Reads wait for it. */
  hold: Promise<void> | null = null;

  #log(log: number): StoredLog {
    let stored = this.#logs.get(log);
    if (stored === undefined) {
      stored = { stable: new Map(), stableSequence: 0, trimmedTo: 0 };
      this.#logs.set(log, stored);
    }
    return stored;
  }

  sequencesOf(log: number): number[] {
    return [...this.#log(log).stable.keys()];
  }

  all(): number[] {
    return [...this.#logs].filter(([, { stable }]) => stable.size > 0).map(([log]) => log);
  }

  get bytes(): number {
    let bytes = 0;
    for (const { stable } of this.#logs.values()) for (const { payload } of stable.values()) bytes += payload.length;
    return bytes;
  }

  delete(log: number, sequence: number, trimmedTo: number): void {
    const stored = this.#log(log);
    stored.trimmedTo = Math.max(stored.trimmedTo, trimmedTo);
    stored.stable.delete(sequence);
  }

  writer(log: number, clock: Clock): MemoryWriter {
    const writer = new MemoryWriter(log, this.#log(log), clock);
    this.writers.set(log, writer);
    return writer;
  }

  #segment(log: number, sequence: number): Segment {
    const segment = this.#log(log).stable.get(sequence);
    if (segment === undefined) throw new DazzleError("fragmentMissing", `segment ${log}/${sequence}`);
    return segment;
  }

  async read({ log, sequence, offset, length }: LogAddress): Promise<readonly Buffer[]> {
    this.reads++;
    await this.hold;
    const { payload } = this.#segment(log, sequence);
    return [payload.subarray(offset, offset + length)];
  }

  access(map: MapCache, clock: Clock): LogAccess {
    return {
      open: (log) => this.writer(log, clock),
      recover: async (log) => {
        this.writers.get(log)?.cut();
        const { stableSequence: end, trimmedTo } = this.#log(log);
        await map.change((now) => {
          const row = now.logs.find(({ id }) => id === log);
          return row === undefined || row.end !== null ? undefined : withLog(now, log, { state: "ended", end });
        });
        return { end: map.current.logs.find(({ id }) => id === log)?.end ?? end, trimmedTo, places: new Map() };
      },
      list: async (log): Promise<LogListing> => {
        const { stableSequence, trimmedTo } = this.#log(log);
        return { sequences: [], stableSequence, trimmedTo };
      },
      summary: async (log, sequence, group, groupVersion) => {
        const { records, payload } = this.#segment(log, sequence);
        return { records: [...records], payloadBytes: payload.length, group, groupVersion };
      },
      read: (address) => this.read(address),
      room: async () => ({ bytes: this.room(), leastBytes: this.leastRoom, segmentBytes: CAPACITY }),
    };
  }
}
