import { type Handlers, memberId } from "@dazzle/core";
import type { Manager } from "../manager.ts";

/** What managers answer each other. */
export function movingHandlers(manager: Manager): Handlers {
  return {
    managerAlive: async () => {
      manager.check();
      return { reply: { log: manager.log } };
    },

    yieldSlots: async ({ slots, member, log }) => {
      const { yielder, checkpointer } = await manager.whenLoaded();
      await yielder.yield(slots, { member: memberId(member), log }, checkpointer);
      return { reply: {} };
    },

    takeSlots: async ({ slots }) => {
      const { others } = await manager.whenLoaded();
      await others.bring(slots);
      for (const slot of slots) await manager.whenOpen(slot);
      return { reply: {} };
    },
  };
}
