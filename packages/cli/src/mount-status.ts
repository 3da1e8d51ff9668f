import { realProcesses } from "@dazzle/runtime";
import { callOnce } from "./calls.ts";
import { type MountRecord, readRecords } from "./mount-records.ts";

const ANSWER_DEADLINE_MS = 1_500;

/** A mount of this machine, as its node tells others of it. */
export interface LocalMount {
  readonly pid: number;
  readonly mountpoint: string;
  /** `NO_MEMBER` on a machine that is none. */
  readonly member: number;
  readonly state: "up" | "stalled" | "ending";
  /** The log it writes, and how it speaks to the kernel; null where it does not answer. */
  readonly log: number | null;
  readonly engine: string | null;
  readonly counters: Readonly<Record<string, number>>;
}

/** Asks every mount of the cluster on this machine at once. */
export async function mountsHere(directory: string): Promise<readonly LocalMount[]> {
  const records = (await readRecords(directory)).filter((record) => record.connection > 0 && !realProcesses.isGone(record.process));
  return Promise.all(records.map(mountStatus));
}

async function mountStatus({ pid, mountpoint, member, socket }: MountRecord): Promise<LocalMount> {
  const answered = socket === null ? undefined : await callOnce(socket, "status", {}, ANSWER_DEADLINE_MS).catch(() => undefined);
  const document = (answered?.reply.document ?? {}) as Partial<LocalMount>;
  const { counters = {}, engine = null, log = null } = document;
  const state = socket === null ? "ending" : answered === undefined ? "stalled" : "up";
  return { pid, mountpoint, member, state, log, engine, counters };
}
