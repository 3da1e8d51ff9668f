import { assert, type Clock, isDazzleError, type Logger, type RpcPeer, sleep } from "@dazzle/core";
import { RETRY_MS } from "./shipping.ts";
import type { SlotQueue } from "./slot-queue.ts";

const RETRY_MAX_MS = 800;
/** Index numbers, or numbers of pairs and threes, in one message. */
const CLAIMED_MAX = 9_996;
assert(CLAIMED_MAX % 6 === 0, "pairs and threes are not torn");

/** What this mount holds in a slot. */
export interface Holdings {
  readonly exclusive: number[];
  readonly shared: number[];
  /** Of files that are here in part, in threes: the index number and the regions from and to. */
  readonly ranges: number[];
  /** Open here, without a token. */
  readonly opens: number[];
  /** Leased numbers that nobody used, in pairs: the first and how many. */
  readonly numbers: number[];
}

export interface ClaimPorts {
  /** What is held in these slots now. From then on nothing that was asked of an earlier manager brings anything more. */
  holdings(slots: ReadonlySet<number>): ReadonlyMap<number, Holdings>;
  /** Tells the slot's manager which locks are held and waited for there. */
  declareLocks(slot: number, peer: RpcPeer): Promise<void>;
  /** The connection on which the slot's manager told how far the slot is under this term. Undefined where another one follows it. */
  attached(slot: number, term: number): Promise<RpcPeer | undefined>;
  /** Resolves when what was done in the slot under tokens that are not here any more is applied there. */
  whenFreedApplied(slot: number): Promise<void>;
}

/** Tells new managers of slots what this mount holds there (rule 17). A slot opens when every mount that may hold something has said so; so what
 * is told must be all: an answer of the manager before that is still on its way is void from the moment on in which the claim is made up. */
export class Claims {
  readonly #mount: number;
  readonly #slots: readonly SlotQueue[];
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #ports: ClaimPorts;
  /** By slot: the term under which a manager waits for this mount. */
  readonly #due = new Map<number, number>();
  readonly #underWay = new Set<number>();
  #soon = false;
  #closed = false;
  /** Slots claimed. */
  made = 0;

  constructor(options: { mount: number; slots: readonly SlotQueue[]; clock: Clock; logger: Logger; ports: ClaimPorts }) {
    this.#mount = options.mount;
    this.#slots = options.slots;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#ports = options.ports;
  }

  /** A manager opens the slot under this term, and waits for what this mount holds there. */
  claim(slot: number, term: number): void {
    if (this.#slots[slot] === undefined || term <= (this.#due.get(slot) ?? 0)) return;
    this.#due.set(slot, term);
    if (this.#underWay.has(slot)) return;
    this.#underWay.add(slot);
    void this.#claimUntilDone(slot).finally(() => this.#underWay.delete(slot));
  }

  async #claimUntilDone(slot: number): Promise<void> {
    for (let delayMs = RETRY_MS; !this.#closed; delayMs = Math.min(2 * delayMs, RETRY_MAX_MS)) {
      const term = this.#due.get(slot);
      if (term === undefined) return;
      try {
        const peer = await this.#ports.attached(slot, term);
        if (peer !== undefined) await this.#claimNow(slot, term, peer);
        if (this.#due.get(slot) === term) this.#due.delete(slot);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        if (this.#closed) return;
        // A new manager may still be reading the slot: that is said once it takes long.
        if (delayMs >= RETRY_MAX_MS)
          this.#logger("info", "a slot is claimed again", { log: this.#mount, slot, term, reason: error.message });
        await sleep(this.#clock, delayMs);
      }
    }
  }

  async #claimNow(slot: number, term: number, peer: RpcPeer): Promise<void> {
    const held = await this.#holdings(slot);
    const pages = pagesOf(held);
    const send = (page: number, rows: Partial<Holdings>, more: boolean) => {
      const { exclusive = [], shared = [], ranges = [], opens = [], numbers = [] } = rows;
      return peer.call("claims", { mount: this.#mount, slot, term, page, more, exclusive, shared, ranges, opens, numbers });
    };
    for (const [page, rows] of pages.entries()) await send(page, rows, true);
    await this.#ports.declareLocks(slot, peer);
    // Nobody can ask for it: it is there before the slot opens. The rest is asked for by revoking its token.
    await this.#ports.whenFreedApplied(slot);
    await send(pages.length, {}, false);
    this.made++;
  }

  #gathering: Map<number, Array<(held: Holdings) => void>> = new Map();

  /** Those that are claimed in one turn are gathered in one pass. */
  #holdings(slot: number): Promise<Holdings> {
    return new Promise((resolve) => {
      this.#gathering.set(slot, [...(this.#gathering.get(slot) ?? []), resolve]);
      if (this.#soon) return;
      this.#soon = true;
      this.#clock.soon(() => {
        this.#soon = false;
        const asked = this.#gathering;
        this.#gathering = new Map();
        const held = this.#ports.holdings(new Set(asked.keys()));
        for (const [of, resolves] of asked) for (const done of resolves) done(held.get(of) ?? noHoldings());
      });
    });
  }

  close(): void {
    this.#closed = true;
  }
}

export function noHoldings(): Holdings {
  return { exclusive: [], shared: [], ranges: [], opens: [], numbers: [] };
}

/** At least one page. */
function pagesOf(held: Holdings): Array<Partial<Holdings>> {
  const pages: Array<Partial<Holdings>> = [];
  for (const kind of ["numbers", "exclusive", "shared", "ranges", "opens"] as const)
    for (let at = 0; at < held[kind].length; at += CLAIMED_MAX) pages.push({ [kind]: held[kind].slice(at, at + CLAIMED_MAX) });
  return pages.length > 0 ? pages : [{}];
}
