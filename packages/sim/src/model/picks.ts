import type { SeededRandom } from "../random.ts";
import { entriesOf, MODEL_ROOT, type ModelNode, type NodeId, nodeOf, type State } from "./state.ts";

/** How deep each node of the tree lies. */
export function depthsOf(state: State): Map<NodeId, number> {
  const depths = new Map([[MODEL_ROOT, 0]]);
  for (const [parent, , id] of entriesOf(state)) depths.set(id, (depths.get(parent) as number) + 1);
  return depths;
}

/** A random node of the tree, the root too; undefined where none fits. */
export function pickNode(state: State, random: SeededRandom, fits: (node: ModelNode) => boolean): NodeId | undefined {
  const ids = [...depthsOf(state).keys()].filter((id) => fits(nodeOf(state, id)));
  return ids.length === 0 ? undefined : random.pick(ids);
}

export function pickDirectory(state: State, random: SeededRandom): NodeId {
  return pickNode(state, random, (node) => node.kind === "directory") ?? MODEL_ROOT;
}

export function pickEntry(state: State, random: SeededRandom): readonly [parent: NodeId, name: string, id: NodeId] | undefined {
  const entries = [...entriesOf(state)];
  return entries.length === 0 ? undefined : random.pick(entries);
}

/** Whether `inner` is `outer` or lies below it. */
export function isWithin(state: State, inner: NodeId, outer: NodeId): boolean {
  if (inner === outer) return true;
  const above = new Map<NodeId, NodeId>();
  for (const [parent, , id] of entriesOf(state)) above.set(id, parent);
  for (let at = above.get(inner); at !== undefined; at = above.get(at)) if (at === outer) return true;
  return false;
}
