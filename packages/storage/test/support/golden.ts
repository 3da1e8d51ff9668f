import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The bytes of a golden file. `DAZZLE_RECORD_GOLDEN=1` writes one that does not exist yet; one that exists is never
 * written again: disks of that format are out there. */
export function goldenBytes(name: string, fresh: () => Uint8Array): Buffer {
  const path = fileURLToPath(new URL(`../golden/${name}.hex`, import.meta.url));
  if (process.env.DAZZLE_RECORD_GOLDEN === "1" && !existsSync(path)) {
    const digits = Buffer.from(fresh()).toString("hex");
    writeFileSync(path, `${digits.replace(/.{64}(?=.)/g, "$&\n")}\n`, { flag: "wx" });
  }
  return Buffer.from(readFileSync(path, "utf8").replace(/\s/g, ""), "hex");
}
