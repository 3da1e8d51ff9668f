import { join } from "node:path";
import { runDirectory } from "./cluster-directory.ts";

/** Held by `dazzle up` while it runs. */
export const upLock = (directory: string) => join(runDirectory(directory), "up.json");
