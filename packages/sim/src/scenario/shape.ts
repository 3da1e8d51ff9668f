import { SeededRandom } from "../random.ts";

export const NODES = 3;

/** How large a seed's cluster is. */
export interface Shape {
  readonly mounts: number;
  /** Nodes that are managers, between which slots move. */
  readonly managers: number;
  /** Nodes that may keep the map. */
  readonly keepers: number;
}

/** The seed decides what is not asked for. */
export function shapeOf(seed: number, asked: Partial<Shape>): Shape {
  const random = new SeededRandom(`${seed}/shape`);
  const drawn = { mounts: random.pick([1, 1, 2, 3]), managers: random.pick([1, 1, 2, 3]), keepers: random.pick([1, 3]) };
  return { mounts: asked.mounts ?? drawn.mounts, managers: asked.managers ?? drawn.managers, keepers: asked.keepers ?? drawn.keepers };
}
