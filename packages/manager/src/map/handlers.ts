import type { Handlers } from "@dazzle/core";
import type { Acceptor } from "./acceptor.ts";

/** What a keeper answers. `acceptor` throws where there is none (yet). */
export function keeperHandlers(acceptor: () => Acceptor): Handlers {
  return {
    mapState: () => {
      const { accepted, map } = acceptor().state;
      return { reply: { accepted, map } };
    },
    mapPrepare: async ({ ballot }) => ({ reply: await acceptor().prepare(ballot) }),
    mapAccept: async ({ ballot, map }) => ({ reply: { promised: (await acceptor().accept(ballot, map)).promised } }),
  };
}
