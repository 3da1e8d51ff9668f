import { type Handlers, isDazzleError, type Limits, type MemberId, type Peers } from "@dazzle/core";

const REACHES_DEADLINE_MS = 500;

/** Whether a member reaches a server's store, and that does what it is asked: a server whose disk hangs answers, and is of no use to who writes. */
export function reachesHandler({
  peers,
  limits,
}: {
  readonly peers: () => Peers;
  readonly limits: Limits;
}): NonNullable<Handlers["reaches"]> {
  return async ({ member, store }) => {
    try {
      const { reply } = await peers().call(member as MemberId, "stat", {}, { deadlineMs: REACHES_DEADLINE_MS });
      return { reply: { reached: reply.store === store && reply.stalledMs < limits.serverDeadlineMs } };
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return { reply: { reached: false } };
    }
  };
}
