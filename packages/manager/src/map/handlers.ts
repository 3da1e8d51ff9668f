import type { Handlers } from "@dazzle/core";
import type { Acceptor } from "./acceptor.ts";
import type { LeaseBook } from "./lease-book.ts";

/** What a keeper answers. `acceptor` and `leases` throw where there is none (yet). */
export function keeperHandlers(acceptor: () => Acceptor, leases: () => LeaseBook): Handlers {
  return {
    mapState: () => {
      const { accepted, map } = acceptor().state;
      return { reply: { accepted, map } };
    },
    mapPrepare: async ({ ballot }) => ({ reply: await acceptor().prepare(ballot) }),
    mapAccept: async ({ ballot, map }) => ({ reply: { promised: (await acceptor().accept(ballot, map)).promised } }),
    managerLease: ({ member, log }) => {
      const { keepers, formerKeepers } = acceptor().state.map;
      return { reply: { ...leases().promise(member, log), keepers, formerKeepers } };
    },
    leaseLeft: ({ log }) => ({ reply: leases().leftMs(log) }),
    leaseAsked: ({ log }) => ({ reply: leases().asked(log) }),
  };
}
