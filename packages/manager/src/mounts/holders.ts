import { type Clock, DazzleError, isDazzleError, type Limits, NO_REGIONS, type RegionRange, sleep, slotOf } from "@dazzle/core";
import type { ShardHost } from "../shard/shard-host.ts";
import type { Conflict, TokenTable } from "../tokens/token-table.ts";
import type { Waiter } from "../tokens/waiter.ts";
import type { MountSession } from "./mount-session.ts";
import type { Mounts } from "./mounts.ts";

const REVOKE_RETRY_MS = 100;
/** After this the token is taken instead. */
const PEEK_DEADLINE_MS = 1_000;

/** What is asked of mounts that hold tokens: to give them back, and how what they hold is. */
export class Holders {
  readonly #mounts: Mounts;
  readonly #host: ShardHost;
  readonly #tokens: TokenTable;
  readonly #clock: Clock;
  readonly #limits: Limits;

  constructor(options: { mounts: Mounts; host: ShardHost; tokens: TokenTable; clock: Clock; limits: Limits }) {
    this.#mounts = options.mounts;
    this.#host = options.host;
    this.#tokens = options.tokens;
    this.#clock = options.clock;
    this.#limits = options.limits;
  }

  get #nowMs(): number {
    return this.#clock.nowMs();
  }

  /** Has a mount give a token back. Resolves when it has, or is gone, with what it keeps. Rejects `timedOut` where it does neither for so long as a
   * request may wait: longer than it takes to expel it; and as soon as the waiter has left. */
  async revoke({ mount, keepShared, wanted: { from, to } }: Conflict, ino: number, grant: number, waiter: Waiter): Promise<RegionRange> {
    const endMs = this.#nowMs + this.#limits.writeDeadlineMs;
    const waited = this.#mounts.want(mount);
    try {
      for (;;) {
        const session = this.#mounts.session(mount);
        if (session === undefined || session.state === "gone") return NO_REGIONS;
        const leftMs = endMs - this.#nowMs;
        if (leftMs <= 0) throw new DazzleError("timedOut", `mount ${mount} does not give the token of ${ino} back`);
        const kept = await waiter.unlessLeft(this.#askBack(session, { ino, keepShared, from, to, grant }, leftMs));
        if (kept !== undefined) return kept;
        await waiter.unlessLeft(Promise.race([session.changed(), sleep(this.#clock, REVOKE_RETRY_MS)]));
      }
    } finally {
      waited();
    }
  }

  /** Asks a mount about objects of one slot that it holds (`peekHolder`). Undefined where it does not answer at once. */
  async peek(
    mount: number,
    inos: readonly number[],
    grant: number,
  ): Promise<{ readonly inode: readonly Uint8Array[] | undefined; readonly shared: readonly number[] } | undefined> {
    const session = this.#mounts.session(mount);
    if (session?.state !== "open" || session.peer === undefined || session.peer.closed) return undefined;
    const slot = slotOf(inos[0] as number);
    const { term } = this.#host.shard(slot);
    try {
      const { reply, tail } = await session.peer.call("peekHolder", { inos, slot, term, grant }, { deadlineMs: PEEK_DEADLINE_MS });
      session.hear(this.#nowMs);
      return { inode: reply.changing ? tail : undefined, shared: reply.shared };
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return undefined;
    }
  }

  /** Undefined where the mount did not answer. */
  async #askBack(
    session: MountSession,
    asked: RegionRange & { readonly ino: number; readonly keepShared: boolean; readonly grant: number },
    deadlineMs: number,
  ): Promise<RegionRange | undefined> {
    if (session.state !== "open" || session.peer === undefined || session.peer.closed) return undefined;
    const slot = slotOf(asked.ino);
    const { term } = this.#host.shard(slot);
    const answered = session.peer.call("revoke", { ...asked, slot, term }, { deadlineMs }).then(
      ({ reply }) => {
        const { openers } = this.#tokens;
        if (reply.open) openers.add(session.log, asked.ino);
        else openers.remove(session.log, asked.ino);
        return { from: reply.from, to: reply.to };
      },
      (error: unknown) => {
        if (!isDazzleError(error)) throw error;
        return undefined;
      },
    );
    const kept = await Promise.race([answered, session.changed().then(() => undefined)]);
    if (kept !== undefined) session.hear(this.#nowMs);
    return kept;
  }
}
