import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { clusterFile, DEFAULT_DIRECTORY, nodeDirectory, readCluster } from "../cluster-directory.ts";
import { serveNode } from "../node-process.ts";
import { failure, printJson } from "../output.ts";
import { type Command, parse } from "../usage.ts";

export const nodeCommand: Command = {
  help: `dazzle node [--dir DIR/nodes/NAME] [--json]
This machine's daemon, in the foreground: the roles that node.json in its directory names, until SIGINT or SIGTERM.

  --dir DIR   the node's own directory, or that of a cluster with one node (default ${DEFAULT_DIRECTORY})
  --json      print one JSON document when it is up`,

  async run(args) {
    const { values } = parse(args, { dir: { type: "string" }, json: { type: "boolean" } });
    const node = await nodeOf(resolve(values.dir ?? DEFAULT_DIRECTORY));
    return serveNode(node, (fields) => {
      if (values.json === true) printJson(fields);
    });
  },
};

async function nodeOf(directory: string): Promise<string> {
  if (existsSync(join(directory, "node.json")) || !existsSync(clusterFile(directory))) return directory;
  const nodes = (await readCluster(directory))?.nodes ?? [];
  const [only] = nodes;
  if (only !== undefined && nodes.length === 1) return nodeDirectory(directory, only.name);
  throw failure(
    `${directory} is a cluster of ${nodes.length} nodes: name one, as in --dir ${nodeDirectory(directory, only?.name ?? "NAME")}`,
  );
}
