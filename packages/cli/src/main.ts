import { lineOf } from "./output.ts";
import { report } from "./supervised.ts";
import { type Command, UsageError } from "./usage.ts";

/** Loaded when they are run: `dazzle status` needs neither the kernel's side nor the roles. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  up: async () => (await import("./commands/up.ts")).upCommand,
  down: async () => (await import("./commands/down.ts")).downCommand,
  init: async () => (await import("./commands/init.ts")).initCommand,
  join: async () => (await import("./commands/join.ts")).joinCommand,
  leave: async () => (await import("./commands/leave.ts")).leaveCommand,
  "declare-lost": async () => (await import("./commands/declare-lost.ts")).declareLostCommand,
  group: async () => (await import("./commands/group.ts")).groupCommand,
  keeper: async () => (await import("./commands/keeper.ts")).keeperCommand,
  manager: async () => (await import("./commands/manager.ts")).managerCommand,
  clean: async () => (await import("./commands/clean.ts")).cleanCommand,
  scrub: async () => (await import("./commands/scrub.ts")).scrubCommand,
  status: async () => (await import("./commands/status.ts")).statusCommand,
  fsck: async () => (await import("./commands/fsck.ts")).fsckCommand,
  mount: async () => (await import("./commands/mount.ts")).mountCommand,
  unmount: async () => (await import("./commands/unmount.ts")).unmountCommand,
  sync: async () => (await import("./commands/sync.ts")).syncCommand,
  node: async () => (await import("./commands/node.ts")).nodeCommand,
};

const HELP = `usage: dazzle COMMAND [OPTIONS]
A serverless cluster filesystem.

  up        a whole cluster on this machine, in the foreground
  down      stop what up started
  init      begin a cluster of several machines: this is its first
  join      make this machine a member
  leave     take a machine out of the cluster
  group     the stripe groups, and changing them
  manager   the manager map
  keeper    how many members keep the cluster map
  status    the members, groups, managers and mounts, and what is wrong
  clean     move what lives in segments together, and win the rest
  fsck      look through the cluster for what is wrong
  scrub     verify everything stored, and repair what is damaged
  declare-lost  say that what a storage server has stored never comes back
  mount     mount the cluster
  unmount   unmount it
  sync      make everything that a mount has done durable
  node      this machine's daemon

dazzle COMMAND --help tells more. Exit status: 0 success, 1 failure, 2 wrong usage; fsck has more.
`;

const EXIT = { success: 0, failure: 1, usage: 2 } as const;

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(HELP);
    return EXIT.success;
  }
  const load = name === undefined ? undefined : Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (load === undefined)
    return complain(name === undefined ? "a command is missing" : `there is no command "${name}"`, "dazzle --help", EXIT.usage);
  const command = await load();
  if (rest.includes("--help") || rest.includes("-h")) {
    process.stdout.write(`${command.help}\n`);
    return EXIT.success;
  }
  try {
    return await command.run(rest);
  } catch (error) {
    if (error instanceof UsageError) return complain(`${name}: ${error.message}`, `dazzle ${name} --help`, EXIT.usage);
    const line = `dazzle ${name}: ${lineOf(error)}`;
    process.stderr.write(`${line}\n`);
    await report({ type: "failed", line: lineOf(error) });
    return EXIT.failure;
  }
}

function complain(what: string, help: string, status: number): number {
  process.stderr.write(`dazzle: ${what}; see ${help}\n`);
  return status;
}

const status = await main(process.argv.slice(2));
// What is left open, such as a connection that says farewell, keeps nobody waiting; what was printed is handed over first.
process.stdout.write("", () => process.stderr.write("", () => process.exit(status)));
