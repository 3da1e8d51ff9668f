import { type DazzleError, type Group, type GroupServer, type GroupVersionRow, isDazzleError, someAtOnce } from "@dazzle/core";
import { ByteBudget } from "./byte-budget.ts";
import { type CarryPlan, carryOver, carryPlan, restoreMissing } from "./carry.ts";
import { memberName } from "./listing.ts";
import type { MoveOptions, MoveTask } from "./move-scan.ts";
import { isGone } from "./outdated.ts";
import type { LogReader } from "./reader.ts";
import { restoreSegment } from "./restore.ts";

/** Tasks that are carried over together, and after which what they supersede is deleted. */
const BATCH_MAX = 64;
/** Segments under way at once, and their bytes: what one server adds to the queues of the others is no more. */
const MOVES_MAX = 32;
const MOVING_BYTES_MAX = 8 * 1024 * 1024;

/** Then a segment is not written whole either: a later look tries again. */
const NOW_HOPELESS: ReadonlySet<DazzleError["code"]> = new Set(["noSpace", "unreachable", "timedOut"]);

export interface MovedSegments {
  readonly failed: number;
  /** Why the last one failed. */
  readonly reason: string;
}

export interface MoveWork extends MoveOptions {
  readonly reader: LogReader;
  /** Called with the bytes of each segment that is whole. */
  readonly onMoved: (bytes: number) => void;
  /** Asked before each segment, and before what was superseded is deleted: the rest is left to a later look. True once the map says otherwise where things lie. */
  readonly isOver: () => boolean;
  /** Awaited after each segment that has redundancy left, with how long it took. */
  readonly rest: (tookMs: number) => Promise<void>;
}

/** Brings segments whole under the current version of their group, some at once, and deletes what that supersedes: fragments that are at their places are carried over, the
 * others stored. What fails is left to a later look. */
export async function moveSegments(work: MoveWork, group: Group, tasks: readonly MoveTask[]): Promise<MovedSegments> {
  // Nobody waits for it: a busy server has as long as for any request.
  const options = { ...work, limits: { ...work.limits, serverDeadlineMs: work.limits.requestDeadlineMs } };
  const { clock } = options.ports;
  const budget = new ByteBudget(MOVING_BYTES_MAX);
  let failed = 0;
  let reason = "";
  let unroomyInARow = 0;
  await someAtOnce(MOVES_MAX, inBatches(options, group, tasks), async ({ task, batch, next }) => {
    // The group is full: a later look tries again. Any other failure may be of some segments alone.
    if (unroomyInARow >= BATCH_MAX || options.isOver()) return batch.ended();
    const plans = await batch.carried();
    // Servers carry over and delete while others are read and written.
    void next?.carried();
    await budget.take(task.payloadBytes);
    const beganMs = clock.nowMs();
    try {
      await moveSegment(options, group, task, plans.get(task));
      unroomyInARow = 0;
      options.onMoved(task.readable.length > 0 ? task.payloadBytes : 0);
      batch.whole.push(task);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      failed++;
      if (isDazzleError(error, "noSpace")) unroomyInARow++;
      reason = error.message;
    } finally {
      budget.give(task.payloadBytes);
    }
    if (!task.isExposed) await options.rest(clock.nowMs() - beganMs);
    await batch.ended();
  });
  return { failed, reason };
}

class Batch {
  readonly tasks: readonly MoveTask[];
  readonly whole: MoveTask[] = [];
  readonly #options: MoveWork;
  readonly #group: Group;
  #left: number;
  #carried: Promise<ReadonlyMap<MoveTask, CarryPlan>> | null = null;

  constructor(options: MoveWork, group: Group, tasks: readonly MoveTask[]) {
    this.#options = options;
    this.#group = group;
    this.tasks = tasks;
    this.#left = tasks.length;
  }

  /** Resolves with the plans of those whose fragments that stay were carried over. */
  carried(): Promise<ReadonlyMap<MoveTask, CarryPlan>> {
    this.#carried ??= this.#carry();
    return this.#carried;
  }

  async #carry(): Promise<ReadonlyMap<MoveTask, CarryPlan>> {
    const plans = new Map<MoveTask, CarryPlan>();
    for (const task of this.tasks) {
      const plan = carryPlan(this.#options, this.#group, task);
      if (plan !== undefined) plans.set(task, plan);
    }
    const carried = await carryOver(this.#options, this.#group, plans);
    for (const task of this.tasks) if (!carried.has(task)) plans.delete(task);
    return plans;
  }

  /** A task was moved, has failed, or is left to a later look. */
  async ended(): Promise<void> {
    await this.#carried;
    if (--this.#left === 0) await deleteSuperseded(this.#options, this.#group, this.whole);
  }
}

interface Step {
  readonly task: MoveTask;
  readonly batch: Batch;
  readonly next: Batch | undefined;
}

function inBatches(options: MoveWork, group: Group, tasks: readonly MoveTask[]): Step[] {
  const batches: Batch[] = [];
  for (let at = 0; at < tasks.length; at += BATCH_MAX) batches.push(new Batch(options, group, tasks.slice(at, at + BATCH_MAX)));
  return batches.flatMap((batch, at) => batch.tasks.map((task): Step => ({ task, batch, next: batches[at + 1] })));
}

async function moveSegment(options: MoveWork, group: Group, task: MoveTask, plan: CarryPlan | undefined): Promise<void> {
  if (task.readable.length === 0) return;
  if (plan !== undefined)
    try {
      await restoreMissing(options, group, task, plan);
      return;
    } catch (error) {
      if (!isDazzleError(error) || NOW_HOPELESS.has(error.code)) throw error;
      options.ports.logger("info", "a segment can't be completed where it is: it is written again", {
        log: task.log,
        sequence: task.sequence,
        reason: error.message,
      });
    }
  await restoreSegment({ ...options, log: task.log }, task, { ...task, beyond: false });
}

/** Of what is trimmed alone: above that, the absence of a set would prove that it was never stable there (rule 1). Nothing where a server was given up since the look: with it
 * the newer set may be gone, and this one be the last. What a server misses here it deletes itself, once it looks through what it holds. */
async function deleteSuperseded(options: MoveWork, group: Group, tasks: readonly MoveTask[]): Promise<void> {
  const sets = new Map<string, { readonly log: number; readonly row: GroupVersionRow; readonly sequences: number[]; trimmedTo: number }>();
  for (const { log, sequence, trimmedTo, superseded } of tasks) {
    if (sequence > trimmedTo) continue;
    for (const version of superseded) {
      const row = group.versions.find((one) => one.version === version) as GroupVersionRow;
      const key = `${log} ${version}`;
      const set = sets.get(key) ?? { log, row, sequences: [], trimmedTo };
      sets.set(key, set);
      set.sequences.push(sequence);
      set.trimmedTo = Math.max(set.trimmedTo, trimmedTo);
    }
  }
  const { map, peers, limits, ports } = options;
  try {
    if (sets.size > 0) await map.refresh();
  } catch (error) {
    if (!isDazzleError(error)) throw error;
    ports.logger("info", "superseded fragments stay while the map can't be read", { group: group.id, reason: error.message });
    return;
  }
  for (const { log, row, sequences, trimmedTo } of sets.values()) {
    if (options.isOver()) return;
    const request = { log, sequences, trimmedTo, group: group.id, groupVersion: row.version };
    // Who is gone would be waited for each time.
    const present = row.servers.filter((server) => !isGone(map.current, server));
    const asked = present.map(async ({ member }: GroupServer) => {
      try {
        await peers.call(member, "delete", request, { deadlineMs: limits.requestDeadlineMs });
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "superseded fragments stay until their server looks through what it holds", {
          log,
          server: memberName(options, member),
          reason: error.message,
        });
      }
    });
    await Promise.all(asked);
  }
}
