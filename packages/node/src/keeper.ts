import {
  CLOCK_DRIFT,
  type ClusterMap,
  DazzleError,
  type Disk,
  type Handlers,
  isDazzleError,
  isSameSet,
  keepersOf,
  type Limits,
  type MapCache,
  type MapRegister,
  type MemberId,
  type Peers,
  type Ports,
  type Timer,
} from "@dazzle/core";
import {
  Acceptor,
  FIRST_BALLOT,
  keeperCandidates,
  keeperHandlers,
  LeaseBook,
  wantedKeepers,
  withFormerKeepersRetired,
  withKeepersAsked,
  withKeepersJoined,
} from "@dazzle/manager";

const MAP_FILE = "map";
const TEND_MS = 1_000;
const READY_DEADLINE_MS = 1_000;

/** What a keeper works with once its process has read the map. */
export interface KeeperParts {
  readonly self: MemberId;
  readonly map: MapCache;
  readonly register: MapRegister;
  readonly peers: Peers;
  readonly ports: Pick<Ports, "clock" | "random" | "logger">;
  readonly limits: Limits;
}

/** This machine's keeper of the cluster map. It also sees to it that the right machines are keepers (rule 33). */
export class Keeper {
  readonly handlers: Handlers;
  readonly #disk: Disk;
  #acceptor: Acceptor | undefined;
  #leases: LeaseBook | null = null;
  #parts: KeeperParts | null = null;
  #timer: Timer | null = null;
  #stopped = false;
  #toldEmptied = false;
  /** Since when the present joint map is known to be decided. */
  #joint: { readonly keepers: readonly MemberId[]; readonly sinceMs: number } | null = null;

  private constructor(disk: Disk, acceptor: Acceptor | undefined) {
    this.#disk = disk;
    this.#acceptor = acceptor;
    this.handlers = {
      ...keeperHandlers(
        () => this.#required(),
        () => this.#promising(),
      ),
      askKeepers: async ({ count }) => {
        if (this.#parts === null) throw new DazzleError("notReady", "this keeper does not know yet what was decided");
        await this.#parts.map.change((now) => withKeepersAsked(now, count));
        return { reply: {} };
      },
    };
  }

  /** `first`: the map of a new cluster, where this keeper begins one. */
  static async open(disk: Disk, first: ClusterMap | undefined): Promise<Keeper> {
    let acceptor = await Acceptor.open(disk, MAP_FILE);
    if (acceptor === undefined && first !== undefined)
      acceptor = await Acceptor.create(disk, MAP_FILE, { map: first, accepted: FIRST_BALLOT });
    return new Keeper(disk, acceptor);
  }

  /** What it has accepted last: maybe never decided. */
  get accepted(): ClusterMap | undefined {
    return this.#acceptor?.state.map;
  }

  /** Begins to promise leases to managers, by the map that was read since the start, and to look after the set of keepers. */
  begin(parts: KeeperParts): void {
    this.#parts = parts;
    this.#leases = new LeaseBook({ clock: parts.ports.clock, limits: parts.limits, map: () => parts.map.current });
    this.#listen();
    this.#tendSometimes(parts);
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #required(): Acceptor {
    if (this.#acceptor === undefined)
      throw new DazzleError("notReady", "this keeper has no map: it was not admitted yet, or its directory was emptied");
    return this.#acceptor;
  }

  #promising(): LeaseBook {
    if (this.#leases === null) throw new DazzleError("notReady", "this keeper does not know yet what was decided");
    return this.#leases;
  }

  /** What is accepted here is known to this process soon, and by its answers to whoever it talks to. */
  #listen(): void {
    const parts = this.#parts;
    if (this.#acceptor === undefined || parts === null) return;
    this.#acceptor.onAccepted = ({ version }) => void parts.map.reach(version).catch(() => {});
  }

  #tendSometimes(parts: KeeperParts): void {
    const { clock, random, logger } = parts.ports;
    this.#timer = clock.after(TEND_MS + random.below(TEND_MS), () => {
      this.#tend(parts)
        .catch((error: Error) => {
          if (!isDazzleError(error)) throw error;
          logger("info", "the keepers of the map are not changed yet", { reason: error.message });
        })
        .finally(() => {
          if (!this.#stopped) this.#tendSometimes(parts);
        });
    });
  }

  async #tend(parts: KeeperParts): Promise<void> {
    const { self, map } = parts;
    if (this.#acceptor === undefined) return this.#admit(parts);
    if (!map.current.keepers.includes(self)) return;
    if (map.current.formerKeepers.length > 0) return this.#retireFormer(parts);
    this.#joint = null;
    const wanted = wantedKeepers(map.current, await this.#whoIsReady(parts));
    if (wanted === undefined) return;
    const before = map.current.keepers;
    await map.change((now) => (isSameSet(now.keepers, before) ? withKeepersJoined(now, wanted) : undefined));
    parts.ports.logger("info", "the keepers of the map change", { from: before.join(), to: wanted.join() });
  }

  /** A lease that the former keepers alone promised has run out by then. */
  async #retireFormer({ map, ports, limits }: KeeperParts): Promise<void> {
    const { keepers } = map.current;
    const nowMs = ports.clock.nowMs();
    if (this.#joint === null || !isSameSet(this.#joint.keepers, keepers)) this.#joint = { keepers, sinceMs: nowMs };
    if (nowMs - this.#joint.sinceMs < limits.managerLeaseMs * (1 + CLOCK_DRIFT)) return;
    await map.change((now) => (isSameSet(now.keepers, keepers) ? withFormerKeepersRetired(now) : undefined));
  }

  async #whoIsReady({ map, peers }: KeeperParts): Promise<(member: MemberId) => boolean> {
    const ready = new Set<MemberId>();
    if (wantedKeepers(map.current, () => true) === undefined) return () => false;
    const ask = async (member: MemberId) => {
      await peers.call(member, "mapState", {}, { deadlineMs: READY_DEADLINE_MS });
      ready.add(member);
    };
    await Promise.allSettled([...map.current.keepers, ...keeperCandidates(map.current)].map(ask));
    return (member) => ready.has(member);
  }

  /** Makes a file, of the map as it is decided, unless this member is in the set: then it had one, with promises in it that are lost now. */
  async #admit({ self, register, ports }: KeeperParts): Promise<void> {
    const vote = await register.readVote();
    if (keepersOf(vote.map).includes(self)) {
      if (!this.#toldEmptied)
        ports.logger("error", "this keeper's directory was emptied: it does not vote any more until its machine joins anew", {
          member: self,
        });
      this.#toldEmptied = true;
      return;
    }
    if (!keeperCandidates(vote.map).includes(self)) return;
    this.#acceptor = await Acceptor.create(this.#disk, MAP_FILE, vote);
    this.#listen();
  }
}
