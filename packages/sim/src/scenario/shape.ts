import { SeededRandom } from "../random.ts";

/** Of the first group, by parity: so many that it goes on without as many servers at once as it has parities. */
const FIRST_SERVERS: Readonly<Record<number, number>> = { 1: 3, 2: 5 };
/** Of the second one, where there is one. */
const SECOND_SERVERS = 2;

/** How large a seed's cluster is. */
export interface Shape {
  readonly mounts: number;
  /** Nodes that are managers, between which slots move. */
  readonly managers: number;
  /** Nodes that may keep the map. */
  readonly keepers: number;
  /** Servers that may be missing at once: 1 or 2. */
  readonly parity: number;
  /** Stripe groups: 1 or 2. */
  readonly groups: number;
  /** Nodes that clean: the last ones. */
  readonly cleaners: number;
  /** Nodes that store and are in no group at first: 0 or 1, the last one. */
  readonly spares: number;
  /** The bound on the first group's data fragments; 0: none. */
  readonly data: number;
}

/** By group: how many servers it has. Each is a node. */
export function serversOf({ parity, groups }: Pick<Shape, "parity" | "groups">): readonly number[] {
  return [FIRST_SERVERS[parity] as number, SECOND_SERVERS].slice(0, groups);
}

/** The seed decides what is not asked for. */
export function shapeOf(seed: number, asked: Partial<Shape>): Shape {
  const random = new SeededRandom(`${seed}/shape`);
  const mounts = random.pick([1, 1, 2, 3]);
  const managers = random.pick([1, 1, 2, 3]);
  const keepers = random.pick([1, 3]);
  const parity = random.pick([1, 1, 1, 1, 2]);
  const groups = random.pick(parity === 1 ? [1, 1, 1, 2] : [1]);
  const cleaners = random.pick([0, 0, 0, 1, 2, 3]);
  const spares = random.pick([0, 0, 1]);
  const data = random.pick([0, 0, 0, 1, 2]);
  return {
    mounts: asked.mounts ?? mounts,
    managers: asked.managers ?? managers,
    keepers: asked.keepers ?? keepers,
    parity: asked.parity ?? parity,
    groups: asked.groups ?? groups,
    cleaners: asked.cleaners ?? cleaners,
    spares: asked.spares ?? spares,
    data: asked.data ?? data,
  };
}
