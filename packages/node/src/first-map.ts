import {
  type Address,
  type ClusterMap,
  type Handlers,
  isDazzleError,
  MapCache,
  MapRegister,
  type MemberId,
  Peers,
  type Ports,
  readMapFromAny,
  sleep,
} from "@dazzle/core";

const START_DEADLINE_MS = 30_000;
const ATTEMPT_MS = 3_000;
const RETRY_MS = 100;

export interface FirstMapOptions {
  readonly ports: Pick<Ports, "network" | "clock" | "random">;
  readonly clusterId: string;
  readonly self: MemberId;
  /** Where some members may answer. */
  readonly seeds: readonly Address[];
  /** Sockets of the members on this machine. */
  readonly near: ReadonlyMap<number, Address>;
  /** Among them what this process answers as a keeper. */
  readonly handlers: Handlers;
  /** What this process's own keeper has accepted last: maybe never decided. */
  readonly accepted: ClusterMap | undefined;
}

/** The decided map that a process starts with, read through the register. Waits while the keepers start: 30 s at most, then rejects
 * with who was missing. */
export async function firstMap(options: FirstMapOptions): Promise<ClusterMap> {
  const { seeds, clusterId } = options;
  const { network, clock } = options.ports;
  const endMs = clock.nowMs() + START_DEADLINE_MS;
  for (;;) {
    try {
      return await readThrough(options.accepted ?? (await readMapFromAny(network, clock, seeds, ATTEMPT_MS, clusterId)), options);
    } catch (error) {
      if (!isDazzleError(error, "unreachable", "timedOut") || clock.nowMs() > endMs) throw error;
      await sleep(clock, RETRY_MS);
    }
  }
}

/** Over connections of its own: whatever else this process does waits for the map that comes of it. */
async function readThrough(map: ClusterMap, options: FirstMapOptions): Promise<ClusterMap> {
  const { ports, self, seeds, near, handlers } = options;
  const register: MapRegister = new MapRegister({ ...ports, peers: () => peers, map, seeds });
  const peers: Peers = new Peers({ ...ports, map: new MapCache(register, map), handlers, self, near });
  try {
    return await register.read();
  } finally {
    peers.close();
  }
}
