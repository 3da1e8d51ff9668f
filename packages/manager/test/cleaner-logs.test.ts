import { type Clock, type ClusterMap, findLog, type LogId, MapCache, type MemberId, type Peers, withLog } from "@dazzle/core";
import { initialMap } from "@dazzle/manager";
import test from "ava";
import { CleanerLogs } from "../src/cleaning/cleaner-logs.ts";
import type { LogAccess } from "../src/log-access.ts";
import type { EndedLogs } from "../src/mounts/ended-logs.ts";

const LOG = 7;
const ME = 1 as MemberId;
const OTHER = 2 as MemberId;
const LOOKS = 5;

/** Every slot is member 2's but that whose manager looks after the log. */
function firstMap(): ClusterMap {
  const members = [ME, OTHER].map((id) => ({
    ...{ id, name: `node${id}`, addresses: [`unix:node${id}`], roles: ["manager" as const, "keeper" as const] },
    ...{ incarnation: 1, leaving: false, store: null },
  }));
  const map = initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members, manager: OTHER });
  const row = { id: LOG as LogId, kind: "cleaner" as const, member: OTHER, process: "cleaner", groups: [], end: null, label: "" };
  const slots = map.slots.map((slot, index) => ({ ...slot, manager: index === LOG ? ME : OTHER, term: 1 }));
  return { ...map, nextLog: 8, logs: [{ ...row, state: "live" }], slots };
}

/** What a manager takes from another one that says how far the log is trimmed, and closes it before where `isClosed`. */
async function trimmedTo(told: number, isClosed: boolean): Promise<readonly number[]> {
  let decided = firstMap();
  let fire = () => {};
  const trimmed: number[] = [];
  const map = new MapCache({ read: async () => decided, compareAndSwap: () => Promise.reject(new Error("nothing is changed")) }, decided);
  const call = async (_member: MemberId, message: string) => {
    if (message === "vouchGone") return { reply: { gone: false } };
    if (isClosed && findLog(decided, LOG)?.state === "live")
      decided = { ...withLog(decided, LOG, { state: "closed", end: 3 }), version: decided.version + 1 };
    return { reply: { version: decided.version, trimmedTo: told } };
  };
  const logs = new CleanerLogs({
    ...{ map, member: ME, peers: { call } as unknown as Peers, logger: () => {} },
    ...{ logs: {} as LogAccess, ended: {} as EndedLogs, isServing: () => true, onClosed: () => {} },
    clock: {
      after: (_delayMs: number, action: () => void) => {
        fire = action;
        return { cancel: () => {} };
      },
    } as unknown as Clock,
    onTrimmed: (_log, to) => trimmed.push(to),
  });
  logs.start();
  for (let looks = 0; looks < LOOKS; looks++) {
    fire();
    await new Promise((resolve) => setImmediate(resolve));
  }
  logs.close();
  return trimmed;
}

test("how far a cleaner's log is trimmed is taken from another manager as long as the log is live", async (t) => {
  t.deepEqual(await trimmedTo(2, false), [2]);
  t.deepEqual(await trimmedTo(Number.MAX_SAFE_INTEGER, true), [], "all of a closed log is trimmed, which is no sequence");
});
