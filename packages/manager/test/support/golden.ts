import { readFileSync } from "node:fs";

/** A layout's bytes as they were first written, in hexadecimal; white space counts for nothing. Never regenerated: disks hold them. */
export function golden(name: string): string {
  return readFileSync(new URL(`../golden/${name}.hex`, import.meta.url), "utf8").replace(/\s+/g, "");
}
