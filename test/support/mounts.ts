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

/** For a shell, where a mount namespace of its own begins: its copies of what tests have mounted would keep that mounted, and who unmounts it waiting. What lies below `but` stays. */
export function forgetMounts(but = "/none"): string {
  return `
mount --make-rprivate /
while read -r _ _ _ _ mountpoint _; do
  case $mountpoint in ${but}/*) ;; */dazzle-test-*) echo "$mountpoint" ;; esac
done </proc/self/mountinfo | sort -r | while read -r mountpoint; do umount -l "$mountpoint" || :; done
`;
}

export function isMounted(mountpoint: string): boolean {
  return mountTable().some((row) => row.mountpoint === mountpoint);
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
