import type { Handlers } from "@dazzle/core";
import type { Manager, OpenManager } from "../manager.ts";

/** What a manager answers to others about what is needed, of the slots that are read here: for the rest the others wait. */
export function livenessHandlers(manager: Manager): Handlers {
  const loaded = (): OpenManager => {
    manager.check();
    return manager.parts;
  };

  return {
    liveAmong: async ({ log, sequences, low, high }) => {
      const segments = sequences.map((sequence, index) => ({ sequence, slots: { low: low[index] ?? 0, high: high[index] ?? 0 } }));
      return { reply: await loaded().liveness.here.answer(log, segments) };
    },

    settled: async ({ log, end }) => ({ reply: await loaded().mounts.ended.answer(log, end) }),
  };
}
