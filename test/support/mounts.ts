import { readFileSync } from "node:fs";

export interface MountRow {
  readonly mountpoint: string;
  readonly type: string;
  readonly source: string;
}

/** The mount table: reading it never asks a mounted filesystem. */
export function mountTable(): MountRow[] {
  return readFileSync("/proc/mounts", "latin1")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [source = "", mountpoint = "", type = ""] = line.split(" ");
      return { mountpoint: unescapeOctal(mountpoint), type, source };
    });
}

export function isMounted(mountpoint: string): boolean {
  return mountTable().some((row) => row.mountpoint === mountpoint);
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
