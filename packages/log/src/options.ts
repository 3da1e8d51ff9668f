import type { Clock, Limits, Logger, MapCache, Peers } from "@dazzle/core";

/** The ports that the log needs. */
export interface LogPorts {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What everything here works with. */
export interface LogOptions {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly ports: LogPorts;
  readonly limits: Limits;
}
