// A mount in a process of its own: serve.ts MOUNTPOINT ENGINE [COMMAND]. Runs the command in a shell, prints what it printed, and unmounts;
// without one it serves until somebody else unmounts.
import { type EngineKind, MountError, mountFileSystem } from "../../src/index.ts";
import { MemoryFileSystem } from "./memory-file-system.ts";
import { run } from "./mounted.ts";

const [mountpoint = "", engine = "auto", command] = process.argv.slice(2);
try {
  const mount = await mountFileSystem(new MemoryFileSystem(), { mountpoint, engine: engine as EngineKind | "auto" });
  console.log(`mounted ${mount.connection} ${mount.engine}`);
  if (command !== undefined) {
    // The shell changes the directory: spawn's own `cwd` would wait in this process for this process's answer.
    console.log(await run("sh", ["-c", `cd "$0" && { ${command}; }`, mountpoint]));
    await mount.unmount();
  }
  await mount.closed;
  console.log("closed");
} catch (error) {
  if (!(error instanceof MountError)) throw error;
  console.log(`MountError: ${error.message}`);
}
