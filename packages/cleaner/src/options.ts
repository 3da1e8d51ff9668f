import type { Limits, MapCache, MemberId, Peers, Ports } from "@dazzle/core";

/** What everything here works with. */
export interface CleanerOptions {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly ports: Pick<Ports, "clock" | "logger" | "processes">;
  readonly limits: Limits;
  /** The member that this cleaner is of. */
  readonly self: MemberId;
}
