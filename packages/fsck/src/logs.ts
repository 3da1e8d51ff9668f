import { someAtOnce } from "@dazzle/core";
import { behindPrefix, EntryKind, idKey, keyId } from "@dazzle/manager";
import type { Imaps } from "./imaps.ts";
import { askManagers, type Reach } from "./managers.ts";
import { slots } from "./names.ts";
import type { Subject, Suspicion } from "./problems.ts";
import { SegmentCheck, type SegmentCounts } from "./segments.ts";
import { Servers, SilentServer } from "./servers.ts";
import type { Depth } from "./stripes.ts";

const LOGS_AT_ONCE = 2;
/** Everything that is stored, log by log. */
export class LogsCheck {
  readonly #reach: Reach;
  readonly #imaps: Imaps;
  readonly #depth: Depth;
  readonly servers: Servers;

  constructor(reach: Reach, imaps: Imaps, depth: Depth) {
    this.#reach = reach;
    this.#imaps = imaps;
    this.#depth = depth;
    this.servers = new Servers(reach);
  }

  /** `again`: only these segments. `begin` is told of how many logs, and answers whom to tell of each that is done, or of a detail. */
  async look(
    again: ReadonlyArray<{ readonly subject: Subject }> | null,
    begin: (total: number) => (detail?: string) => void,
  ): Promise<{ readonly found: Suspicion[]; readonly counts: SegmentCounts }> {
    const { map } = this.#reach;
    await map.refresh();
    const only = again === null ? null : sequencesOf(again);
    const logs = only === null ? await this.#logs() : [...only.keys()];
    const [trimmed, runs] = [await this.#trimmed(), await this.#runs()];
    const done = begin(logs.length);
    const found: Suspicion[] = [];
    const check = new SegmentCheck({
      map: () => map.current,
      imaps: this.#imaps,
      servers: this.servers,
      depth: this.#depth,
      onSegments: (segments) => done(`${segments} segments`),
    });
    await someAtOnce(LOGS_AT_ONCE, logs, async (log) => {
      const wanted = { log, trimmedTo: trimmed.get(log) ?? 0, runs: runs.get(log) ?? [], only: only?.get(log) ?? null };
      for (const suspicion of await this.#lookAtLog(check, wanted)) found.push(suspicion);
      done();
    });
    return { found, counts: check.counts };
  }

  async #lookAtLog(check: SegmentCheck, wanted: Parameters<SegmentCheck["look"]>[0]): Promise<Suspicion[]> {
    for (;;) {
      const found: Suspicion[] = [];
      try {
        for await (const suspicion of check.look(wanted)) found.push(suspicion);
        return found;
      } catch (error) {
        if (!(error instanceof SilentServer)) throw error;
        this.servers.silent.set(error.member, error.message);
      }
    }
  }

  /** All of which anything is stored, or anything is known. */
  async #logs(): Promise<number[]> {
    const { map } = this.#reach;
    const logs = await this.servers.logs();
    for (const { id } of map.current.logs) logs.add(id);
    const end = behindPrefix(Buffer.of(EntryKind.live));
    for (const slot of slots())
      for (let after: Buffer = Buffer.of(EntryKind.live); ; ) {
        const entry = await this.#imaps.first(slot, after, end);
        if (entry === undefined) break;
        const log = keyId(entry[0]);
        logs.add(log);
        after = behindPrefix(idKey(EntryKind.live, log));
      }
    return [...logs].sort((one, other) => one - other);
  }

  async #trimmed(): Promise<Map<number, number>> {
    const trimmed = new Map<number, number>();
    for (const { logs, trimmedTo } of await askManagers(this.#reach, "logProgress"))
      for (const [index, log] of logs.entries()) trimmed.set(log, Math.max(trimmed.get(log) ?? 0, trimmedTo[index] ?? 0));
    return trimmed;
  }

  async #runs(): Promise<Map<number, number[]>> {
    const runs = new Map<number, Set<number>>();
    for (const { logs, sequences } of await askManagers(this.#reach, "runSegments"))
      for (const [index, log] of logs.entries()) {
        const of = runs.get(log) ?? new Set();
        of.add(sequences[index] as number);
        runs.set(log, of);
      }
    return new Map([...runs].map(([log, of]) => [log, [...of].sort((one, other) => one - other)]));
  }
}

function sequencesOf(suspicions: ReadonlyArray<{ readonly subject: Subject }>): Map<number, Set<number>> {
  const sequences = new Map<number, Set<number>>();
  for (const { subject } of suspicions) {
    const of = sequences.get(subject.log as number) ?? new Set();
    of.add(subject.sequence as number);
    sequences.set(subject.log as number, of);
  }
  return sequences;
}
