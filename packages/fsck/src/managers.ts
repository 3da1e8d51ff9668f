import { type Clock, isDazzleError, type MapCache, type MemberId, type Peers, type Reply, type Request, sleep } from "@dazzle/core";

const DEADLINE_MS = 10_000;
const RETRY_MS = 250;
/** How long a manager need not answer. */
const PATIENCE_MS = 60_000;

/** How a cluster is asked. */
export interface Reach {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly clock: Clock;
}

/** What every manager says. Rejects where one does not answer in time. */
export async function askManagers<Name extends "logProgress" | "runSegments">(
  { map, peers, clock }: Reach,
  message: Name,
): Promise<Array<Reply<Name>>> {
  for (const beganMs = clock.nowMs(); ; ) {
    const members = new Set(map.current.slots.flatMap(({ manager }): MemberId[] => (manager === null ? [] : [manager])));
    try {
      const asked = [...members].map((member) => peers.call(member, message, {} as Request<Name>, { deadlineMs: DEADLINE_MS }));
      return (await Promise.all(asked)).map(({ reply }) => reply);
    } catch (error) {
      if (!isDazzleError(error) || clock.nowMs() - beganMs > PATIENCE_MS) throw error;
      await sleep(clock, RETRY_MS);
      await map.refresh();
    }
  }
}
