import type { MemberId } from "../../ids.ts";
import type { Ballot } from "../../map/ballot.ts";
import type { ClusterMap } from "../../map/cluster-map.ts";
import { type Empty, message } from "./row.ts";

/** What a keeper has accepted last. */
export interface Vote {
  readonly accepted: Ballot;
  readonly map: ClusterMap;
}

/** The map's register, and the promises beside it (docs/map.md). */
export const KeeperMessage = {
  /** The map as the member asked knows it: any member answers. */
  mapRead: message<Empty, { map: ClusterMap }>({ id: 2, since: 1, request: [], reply: ["map"], idempotent: true }),
  /** What a keeper has accepted last. */
  mapState: message<Empty, Vote>({ id: 4, since: 1, request: [], reply: ["accepted", "map"], idempotent: true }),
  /** The keeper promises, on disk, to take nothing of an earlier ballot. It did not where `promised` is another one. */
  mapPrepare: message<{ ballot: Ballot }, Vote & { promised: Ballot }>({
    id: 5,
    since: 1,
    request: ["ballot"],
    reply: ["promised", "accepted", "map"],
    idempotent: true,
  }),
  /** The keeper accepts the map, on disk, if it has promised no later ballot. It did not where `promised` is another one. */
  mapAccept: message<{ ballot: Ballot; map: ClusterMap }, { promised: Ballot }>({
    id: 6,
    since: 1,
    request: ["ballot", "map"],
    reply: ["promised"],
    idempotent: true,
  }),
  /** Promises a manager that its lease will not be taken to be over for `leaseMs`. Rejects `expelled` where the log is not a live one of
   * that member. The sets of keepers are those of the map that the keeper accepted last, decided or not. */
  managerLease: message<
    { member: number; log: number },
    { leaseMs: number; keepers: readonly MemberId[]; formerKeepers: readonly MemberId[] }
  >({
    id: 7,
    since: 1,
    request: ["member", "log"],
    reply: ["leaseMs", "keepers", "formerKeepers"],
    idempotent: true,
  }),
  /** How long the promises given to a log that is not live any more may still run; below zero: since when they are over. None is given to it from then on. */
  leaseLeft: message<{ log: number }, { leftMs: number }>({ id: 8, since: 1, request: ["log"], reply: ["leftMs"], idempotent: true }),
  /** How long ago this keeper last promised something to a live log: its manager was there. Rejects `notReady` where it has not since it started, within a lease. */
  leaseAsked: message<{ log: number }, { agoMs: number }>({ id: 97, since: 1, request: ["log"], reply: ["agoMs"], idempotent: true }),
  /** So many members are to keep the map from now on. Rejects `invalid` where there are not so many that may. */
  askKeepers: message<{ count: number }, Empty>({ id: 88, since: 1, request: ["count"], reply: [], idempotent: true }),
} as const;
