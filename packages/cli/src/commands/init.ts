import { resolve } from "node:path";
import { PARITY_MAX, type Role } from "@dazzle/core";
import { listenAddress, memberName, requireListenable, rolesOf } from "../addresses.ts";
import { DEFAULT_DIRECTORY } from "../cluster-directory.ts";
import { requireNew, writeFirst } from "../machine-directory.ts";
import { print, printJson } from "../output.ts";
import { PARITY_DEFAULT } from "../parity.ts";
import { type Command, parse, UsageError, wholeNumber } from "../usage.ts";

/** Without them there is nothing that others could join. */
const ROLES_NEEDED: readonly Role[] = ["storage", "manager", "keeper"];

export const initCommand: Command = {
  help: `usage: dazzle init --listen HOST:PORT [--roles ROLE,…] [--name NAME] [--parity M] [--dir DIR] [--json]
Begins a cluster of which this is the first machine. It writes the directory; run dazzle node there, then let others join.

  --listen HOST:PORT   where other machines reach this one
  --roles ROLE,…       of storage, manager, cleaner, keeper, client (default: all; storage, manager and keeper are needed)
  --name NAME          of this machine in the cluster (default: its host name)
  --parity M           servers of the stripe group that may be lost at once, 0 to ${PARITY_MAX} (default ${PARITY_DEFAULT}), once there are more
  --dir DIR            where its state is kept (default ${DEFAULT_DIRECTORY})
  --json               print one JSON document`,

  async run(args) {
    const { values } = parse(args, {
      listen: { type: "string" },
      roles: { type: "string" },
      name: { type: "string" },
      parity: { type: "string" },
      dir: { type: "string" },
      json: { type: "boolean" },
    });
    const machine = { name: memberName(values.name), listen: listenAddress(values.listen), roles: rolesOf(values.roles) };
    const missing = ROLES_NEEDED.filter((role) => !machine.roles.includes(role));
    if (missing.length > 0) throw new UsageError(`--roles: the first machine of a cluster is ${missing.join(" and ")}, too`);
    const parity = wholeNumber("--parity", values.parity, 0) ?? PARITY_DEFAULT;
    if (parity > PARITY_MAX) throw new UsageError(`--parity ${parity} is more than ${PARITY_MAX}`);
    const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
    await requireNew(directory);
    await requireListenable(machine.listen);
    await writeFirst(directory, machine, parity);
    const { name, roles } = machine;
    if (values.json === true) printJson({ directory, name, member: 1, address: values.listen, roles });
    else {
      print(`${name} is the first machine of a new cluster: start it with dazzle node --dir ${directory}`);
      print(`then, on other machines: dazzle join ${values.listen} --listen HOST:PORT`);
    }
    return 0;
  },
};
