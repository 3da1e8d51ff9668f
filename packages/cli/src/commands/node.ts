import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Address } from "@dazzle/core";
import { lineLogger } from "@dazzle/runtime";
import { hostPort } from "../addresses.ts";
import { clusterFile, DEFAULT_DIRECTORY, nodeDirectory, readCluster } from "../cluster-directory.ts";
import { serveNode } from "../node-process.ts";
import { failure, printJson } from "../output.ts";
import { type Command, parse } from "../usage.ts";

export const nodeCommand: Command = {
  help: `usage: dazzle node [--dir DIR/nodes/NAME] [--listen HOST:PORT] [--json]
This machine's daemon, in the foreground: the roles that node.json in its directory names, until SIGINT or SIGTERM.

  --dir DIR            the node's own directory, or that of a cluster with one node (default ${DEFAULT_DIRECTORY})
  --listen HOST:PORT   also listen there, beside the socket in its directory
  --json               print one JSON document when it is up`,

  async run(args) {
    const { values } = parse(args, { dir: { type: "string" }, listen: { type: "string" }, json: { type: "boolean" } });
    const listen = listenAddress(values.listen);
    const node = await nodeOf(resolve(values.dir ?? DEFAULT_DIRECTORY));
    return serveNode(node, listen, lineLogger(values.json === true ? process.stderr : process.stdout), (fields) => {
      if (values.json === true) printJson(fields);
    });
  },
};

function listenAddress(listen: string | undefined): readonly Address[] {
  if (listen === undefined) return [];
  return [hostPort("--listen", listen)];
}

async function nodeOf(directory: string): Promise<string> {
  if (existsSync(join(directory, "node.json")) || !existsSync(clusterFile(directory))) return directory;
  const nodes = (await readCluster(directory))?.nodes ?? [];
  const [only] = nodes;
  if (only !== undefined && nodes.length === 1) return nodeDirectory(directory, only.name);
  throw failure(
    `${directory} is a cluster of ${nodes.length} nodes: name one, as in --dir ${nodeDirectory(directory, only?.name ?? "NAME")}`,
  );
}
