import type { Handlers, MapStore } from "@dazzle/core";

/** What a keeper answers. */
export function keeperHandlers(store: MapStore): Handlers {
  return {
    mapRead: async () => ({ reply: { map: await store.read() } }),
    mapWrite: async ({ expected, map }) => {
      await store.compareAndSwap(expected, map);
      return { reply: {} };
    },
  };
}
