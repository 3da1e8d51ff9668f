import { SeededRandom } from "../random.ts";

/** By parity: so many that the group goes on without as many servers at once as it has parities. */
const NODES: Readonly<Record<number, number>> = { 1: 3, 2: 5 };

/** How large a seed's cluster is. */
export interface Shape {
  readonly mounts: number;
  /** Nodes that are managers, between which slots move. */
  readonly managers: number;
  /** Nodes that may keep the map. */
  readonly keepers: number;
  /** Servers that may be missing at once: 1 or 2. */
  readonly parity: number;
}

export function nodesOf({ parity }: Pick<Shape, "parity">): number {
  return NODES[parity] as number;
}

/** The seed decides what is not asked for. */
export function shapeOf(seed: number, asked: Partial<Shape>): Shape {
  const random = new SeededRandom(`${seed}/shape`);
  const mounts = random.pick([1, 1, 2, 3]);
  const managers = random.pick([1, 1, 2, 3]);
  const keepers = random.pick([1, 3]);
  const parity = random.pick([1, 1, 1, 1, 2]);
  return {
    mounts: asked.mounts ?? mounts,
    managers: asked.managers ?? managers,
    keepers: asked.keepers ?? keepers,
    parity: asked.parity ?? parity,
  };
}
