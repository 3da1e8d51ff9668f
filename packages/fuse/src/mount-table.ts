import { readFileSync } from "node:fs";

export interface MountTableRow {
  readonly mountpoint: string;
  /** The minor number of the mount's device: what FUSE calls the connection. */
  readonly connection: number;
  readonly type: string;
  readonly source: string;
  readonly readOnly: boolean;
}

/** What is mounted at exactly this absolute path, the topmost of several. Reads the kernel's table alone: looking at the path itself
 * would hang where the mount does. */
export function findMount(mountpoint: string): MountTableRow | undefined {
  let found: MountTableRow | undefined;
  for (const row of mountTable()) if (row.mountpoint === mountpoint) found = row;
  return found;
}

export function mountTable(): MountTableRow[] {
  return parseMountTable(readFileSync("/proc/self/mountinfo", "latin1"));
}

/** A row of /proc/self/mountinfo: id, parent, major:minor, root, mountpoint, options, optional fields, "-", type, source, options. */
export function parseMountTable(text: string): MountTableRow[] {
  const rows: MountTableRow[] = [];
  for (const line of text.split("\n")) {
    const [left, right] = line.split(" - ", 2);
    if (left === undefined || right === undefined) continue;
    const [, , device, , mountpoint, options] = left.split(" ");
    const [type, source] = right.split(" ");
    if (device === undefined || mountpoint === undefined || type === undefined) continue;
    rows.push({
      mountpoint: unescapePath(mountpoint),
      connection: Number(device.split(":")[1]),
      type,
      source: unescapePath(source ?? ""),
      readOnly: (options ?? "").split(",").includes("ro"),
    });
  }
  return rows;
}

/** The kernel writes blanks, tabs, newlines and backslashes as three octal digits. */
function unescapePath(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}
