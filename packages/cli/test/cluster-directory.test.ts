import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import {
  addressOf,
  genesisOf,
  nearOf,
  nodeDirectory,
  prepareCluster,
  prepareNodes,
  requireCluster,
  requireNode,
} from "../src/cluster-directory.ts";

async function cluster(t: ExecutionContext): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "dazzle-cli-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  await prepareNodes(directory, await prepareCluster(directory, { nodes: 3, groupSize: 2, parity: 1 }));
  return directory;
}

test("a cluster that was begun is read back, and every node agrees with it", async (t) => {
  const directory = await cluster(t);
  const read = await requireCluster(directory);
  t.true(read.prepared);
  for (const row of read.nodes) {
    const { file } = await requireNode(nodeDirectory(directory, row.name));
    t.is(file.member, row.member);
    t.is(file.clusterId, read.clusterId);
  }
  const genesis = await genesisOf(directory, read);
  t.deepEqual(
    genesis?.members.map(({ name }) => name),
    ["node1", "node2", "node3"],
  );
  t.is(genesis?.servers.length, 2);
});

test("nodes that were begun halfway are finished with the same cluster", async (t) => {
  const directory = await cluster(t);
  const { clusterId } = await requireCluster(directory);
  rmSync(nodeDirectory(directory, "node2"), { recursive: true });
  const file = join(directory, "cluster.json");
  writeFileSync(file, JSON.stringify({ ...(await requireCluster(directory)), prepared: false }));
  await prepareNodes(directory, await requireCluster(directory));
  t.is((await requireNode(nodeDirectory(directory, "node2"))).file.clusterId, clusterId);
});

test("addresses go with the directory", async (t) => {
  const directory = await cluster(t);
  const moved = `${directory}-moved`;
  renameSync(directory, moved);
  t.teardown(() => rmSync(moved, { recursive: true, force: true }));
  const read = await requireCluster(moved);
  t.is((await nearOf(moved, read)).get(1), `unix:${join(moved, "nodes/node1/socket")}`);
  t.is(await addressOf(moved, read.nodes[2] as (typeof read.nodes)[2]), `unix:${join(moved, "nodes/node3/socket")}`);
});

test("what is no node's directory, damaged, newer, or another cluster's is refused by name", async (t) => {
  const [directory, other] = [await cluster(t), await cluster(t)];
  const node = nodeDirectory(directory, "node2");
  await t.throwsAsync(requireCluster(join(directory, "missing")), { message: /no cluster/ });
  await t.throwsAsync(requireNode(join(directory, "nodes", "node9")), { message: /node9.*no node.json/ });
  const { file } = await requireNode(node);
  const write = (value: unknown) => writeFileSync(join(node, "node.json"), typeof value === "string" ? value : JSON.stringify(value));
  for (const [value, says] of [
    ["{", /node\.json is damaged/],
    [{ ...file, format: undefined }, /damaged/],
    [{ ...file, format: 2 }, /format 2, newer/],
    [(await requireNode(nodeDirectory(other, "node2"))).file, /another cluster/],
    [{ ...file, name: "node3" }, /node3/],
  ] as const) {
    write(value);
    await t.throwsAsync(requireNode(node), { message: says });
  }
});
