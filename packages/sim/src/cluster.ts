import { MountClient } from "@dazzle/client";
import { type Limits, type Member, type MemberId, memberId, type Peers, RemoteMapStore, type Role, readMapFrom } from "@dazzle/core";
import { type Genesis, MachineNode } from "@dazzle/node";
import type { Instance, World } from "./world.ts";

const START_LIMIT_MS = 120_000;
const CONNECT_DEADLINE_MS = 1_000;

/** A whole cluster in one simulated machine: the shipping code of every role, one process a node, and mounts. */
export class SimCluster {
  readonly world: World;
  readonly limits: Limits;
  readonly clusterId: string;
  readonly genesis: Genesis;
  readonly #nodes = new Map<number, { readonly instance: Instance; readonly node: MachineNode }>();
  #mounts = 0;

  constructor(world: World, options: { readonly limits: Limits; readonly nodes: number; readonly parity: number }) {
    this.world = world;
    this.limits = options.limits;
    this.clusterId = Buffer.from(world.random.bytes(16)).toString("hex");
    const members = Array.from({ length: options.nodes }, (_, index) => memberRow(index + 1));
    this.genesis = { members, manager: memberId(1), servers: members.map(({ id }) => id), parity: options.parity };
  }

  /** Starts a node's process on its own drive, new or again. */
  async startNode(number: number): Promise<MachineNode> {
    const instance = this.world.spawn(nodeName(number));
    const row = this.genesis.members[number - 1] as Member;
    const node = await this.world.run(
      MachineNode.start({
        ports: instance.ports,
        limits: this.limits,
        clusterId: this.clusterId,
        member: row.id,
        roles: row.roles,
        address: row.addresses[0] as string,
        keeper: (this.genesis.members[0] as Member).addresses[0] as string,
        storageDisk: instance.diskAt("storage"),
        keeperDisk: instance.diskAt("keeper"),
        genesis: this.genesis,
      }),
      START_LIMIT_MS,
    );
    this.#nodes.set(number, { instance, node });
    return node;
  }

  /** Starts every node that does not run, and waits until the manager's shards are open. */
  async startAll(): Promise<void> {
    for (let number = 1; number <= this.genesis.members.length; number++) if (!this.isAlive(number)) await this.startNode(number);
    await this.world.run(this.node(1).managing, START_LIMIT_MS);
  }

  node(number: number): MachineNode {
    const running = this.#nodes.get(number);
    if (running === undefined) throw new Error(`node${number} was never started`);
    return running.node;
  }

  isAlive(number: number): boolean {
    return this.#nodes.get(number)?.instance.alive === true;
  }

  kill(number: number): void {
    this.#nodes.get(number)?.instance.kill();
  }

  /** A mount in a process of its own. */
  async mount(): Promise<{ readonly instance: Instance; readonly client: MountClient }> {
    const instance = this.world.spawn(`mount${++this.#mounts}`);
    const { network, clock } = instance.ports;
    const keeper = (this.genesis.members[0] as Member).addresses[0] as string;
    const start = async () => {
      const map = await readMapFrom(network, clock, keeper, CONNECT_DEADLINE_MS);
      const mapStore = (peers: () => Peers) => new RemoteMapStore(peers, () => keeper);
      return MountClient.start({ ports: instance.ports, map, mapStore, member: memberId(1), label: instance.name, limits: this.limits });
    };
    return { instance, client: await this.world.run(start(), START_LIMIT_MS) };
  }
}

function nodeName(number: number): string {
  return `node${number}`;
}

function memberRow(number: number): Member {
  const roles: Role[] = number === 1 ? ["storage", "manager", "keeper"] : ["storage"];
  return {
    id: memberId(number) as MemberId,
    name: nodeName(number),
    addresses: [`sim:${nodeName(number)}`],
    roles,
    incarnation: 1,
    store: null,
  };
}
