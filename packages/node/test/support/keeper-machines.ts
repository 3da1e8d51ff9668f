import {
  type ClusterMap,
  type Handlers,
  helloHandlers,
  isDazzleError,
  KEEPERS_USUAL,
  LIMITS,
  type LogId,
  MapCache,
  MapRegister,
  type MemberId,
  Peers,
  serve,
} from "@dazzle/core";
import { initialMap } from "@dazzle/manager";
import type { Instance, World } from "@dazzle/sim";
import { firstMap } from "../../src/first-map.ts";
import { Keeper } from "../../src/keeper.ts";

const REFRESH_MS = 2_000;

export const addressOf = (member: number) => `sim:k${member}`;
export const nameOf = (member: number) => `k${member}`;

/** A process with its own copy of the map. */
export interface MapUser {
  readonly instance: Instance;
  readonly register: MapRegister;
  readonly map: MapCache;
  readonly peers: Peers;
}

interface Machine {
  readonly instance: Instance;
  /** Null while it starts. */
  map: MapCache | null;
}

/** Machines with the keeper role and nothing else, each with a drive that outlives its process. */
export class KeeperMachines {
  readonly world: World;
  readonly first: ClusterMap;
  readonly #machines = new Map<number, Machine>();
  /** Whose file was made. */
  readonly #begun = new Set<number>();
  /** How often its drive was replaced. */
  readonly #drives = new Map<number, number>();

  constructor(world: World, machines: number, keepers: readonly number[]) {
    this.world = world;
    const members = Array.from({ length: machines }, (_, index) => ({
      id: (index + 1) as MemberId,
      name: nameOf(index + 1),
      addresses: [addressOf(index + 1)],
      roles: ["keeper" as const],
      incarnation: 1,
      leaving: false,
      store: null,
    }));
    const map = initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members, manager: 1 as MemberId });
    this.first = { ...map, keepers: keepers as MemberId[], ...(keepers.length > KEEPERS_USUAL ? { keepersAsked: keepers.length } : {}) };
  }

  get members(): readonly number[] {
    return this.first.members.map(({ id }) => id);
  }

  /** Starts a process, which goes on by itself. */
  start(member: number): void {
    if (this.isAlive(member)) return;
    const instance = this.world.spawn(nameOf(member), { diskDir: this.#driveOf(member) });
    const machine: Machine = { instance, map: null };
    this.#machines.set(member, machine);
    this.#run(member, machine).catch((error: unknown) => {
      if (!isDazzleError(error)) this.world.fail(error);
      instance.kill();
    });
  }

  startAll(): void {
    for (const member of this.members) this.start(member);
  }

  async #run(member: number, machine: Machine): Promise<void> {
    const { ports, disk } = machine.instance;
    const { network, clock, random, logger } = ports;
    const begins = this.first.keepers.includes(member as MemberId) && !this.#begun.has(member);
    const keeper = await Keeper.open(disk, begins ? this.first : undefined);
    this.#begun.add(member);
    const handlers: Handlers = {
      ...helloHandlers(this.first.clusterId, member),
      ...keeper.handlers,
      mapRead: () => ({ reply: { map: machine.map?.current ?? this.first } }),
    };
    const versions = {
      get version() {
        return machine.map?.version ?? 0;
      },
      reach: async (version: number) => machine.map?.reach(version),
    };
    await serve({ network, clock, map: versions, handlers, address: addressOf(member) });
    const self = member as MemberId;
    const seeds = this.members.filter((other) => other !== member).map(addressOf);
    const first = await firstMap({ ports, self, seeds, near: new Map(), handlers, accepted: keeper.accepted });
    const register: MapRegister = new MapRegister({ clock, random, peers: () => peers, map: first });
    const map: MapCache = new MapCache(register, first);
    const peers: Peers = new Peers({ network, clock, map, handlers, self });
    machine.map = map;
    const refresh = () => {
      map.refresh().catch(() => {});
      clock.after(REFRESH_MS, refresh);
    };
    refresh();
    keeper.begin({ self, map, register, peers, ports: { clock, random, logger }, limits: LIMITS });
  }

  isAlive(member: number): boolean {
    return this.#machines.get(member)?.instance.alive === true;
  }

  /** Whether it has read the map. */
  isUp(member: number): boolean {
    return this.isAlive(member) && this.#machines.get(member)?.map !== null;
  }

  /** Ends a process; `losing` what its drive had not synced. */
  kill(member: number, losing = false): void {
    this.#machines.get(member)?.instance.kill();
    if (losing) this.world.drive(this.#driveOf(member)).crash();
  }

  /** Another drive in place of a dead machine's. */
  empty(member: number): void {
    const spare = (this.#drives.get(member) ?? 0) + 1;
    this.#drives.set(member, spare);
  }

  #driveOf(member: number): string {
    return `${nameOf(member)}${"'".repeat(this.#drives.get(member) ?? 0)}`;
  }

  /** Asks that a machine leave the set of keepers, or, where it was asked before, may come back. Nothing happens where too few would be left. */
  leave(member: number): void {
    const machine = [...this.#machines.values()].find(({ instance, map }) => instance.alive && map !== null);
    machine?.map
      ?.change((now) => {
        const members = now.members.map((row) => (row.id === member ? { ...row, leaving: !row.leaving } : row));
        return members.filter(({ leaving }) => !leaving).length < 3 ? undefined : { ...now, members };
      })
      .catch(() => {});
  }

  /** The newest map that a machine that is up knows to be decided. */
  get newest(): ClusterMap {
    const maps = [...this.#machines.values()].flatMap(({ map }) => (map === null ? [] : [map.current]));
    return maps.reduce((newest, map) => (map.version > newest.version ? map : newest), this.first);
  }

  /** Another process of the cluster, that knows the first map alone. */
  user(name: string): MapUser {
    const instance = this.world.spawn(name);
    const { network, clock, random } = instance.ports;
    const register: MapRegister = new MapRegister({ clock, random, peers: () => peers, map: this.first });
    const map: MapCache = new MapCache(register, this.first);
    const peers: Peers = new Peers({ network, clock, map, handlers: {}, self: null });
    return { instance, register, map, peers };
  }
}

/** The map with a new log, of the writer with this label. */
export function withLogOf(map: ClusterMap, label: string, kind: "mount" | "manager" = "mount"): ClusterMap {
  const row = {
    id: map.nextLog as LogId,
    kind,
    member: 1 as MemberId,
    process: label,
    state: "live",
    groups: [],
    end: null,
    label,
  } as const;
  return { ...map, nextLog: map.nextLog + 1, logs: [...map.logs, row] };
}
