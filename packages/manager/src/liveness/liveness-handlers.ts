import { DazzleError, type Handlers } from "@dazzle/core";
import type { Manager, OpenManager } from "../manager.ts";

/** What a manager answers to others about what is needed. As long as its shards are not read, nothing: the others wait. */
export function livenessHandlers(manager: Manager): Handlers {
  const loaded = (): OpenManager => {
    const { parts, state } = manager;
    if (parts === null || state === "failed" || state === "closed") throw new DazzleError("notReady", `the manager is ${state}`);
    return parts;
  };

  return {
    liveAmong: async ({ log, sequences, low, high }) => {
      const segments = sequences.map((sequence, index) => ({ sequence, slots: { low: low[index] ?? 0, high: high[index] ?? 0 } }));
      return { reply: await loaded().liveness.here.answer(log, segments) };
    },

    settled: ({ log, end }) => ({ reply: loaded().mounts.ended.answer(log, end) }),
  };
}
