import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";

const RECORD = process.env.DAZZLE_RECORD_GOLDEN === "1";

function pathOf(name: string): string {
  return fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
}

/** The bytes of a golden file. `DAZZLE_RECORD_GOLDEN=1` writes one that does not exist yet from `fresh`; one that exists
 * is never written again: disks and peers of that format are out there. */
export function goldenBytes(name: string, fresh: () => Uint8Array): Buffer {
  const path = pathOf(`${name}.hex`);
  if (RECORD && !existsSync(path)) {
    const digits = Buffer.from(fresh()).toString("hex");
    writeFileSync(path, `${digits.replace(/.{64}(?=.)/g, "$&\n")}\n`, { flag: "wx" });
  }
  return Buffer.from(readFileSync(path, "utf8").replace(/\s/g, ""), "hex");
}

/** The lines of a golden listing, whose first two words (a table and a number, say) name a row. `DAZZLE_RECORD_GOLDEN=1`
 * appends rows that are new; a row that is there is never changed. */
function goldenRows(name: string, fresh: readonly string[]): string[] {
  const path = pathOf(`${name}.txt`);
  const rows = existsSync(path)
    ? readFileSync(path, "utf8")
        .split("\n")
        .filter((line) => line !== "")
    : [];
  if (!RECORD) return rows;
  const known = new Set(rows.map(rowName));
  const added = fresh.filter((row) => !known.has(rowName(row)));
  if (added.length > 0) appendFileSync(path, `${added.join("\n")}\n`);
  return [...rows, ...added];
}

function rowName(row: string): string {
  return row.split(" ").slice(0, 2).join(" ");
}

/** Every row of the listing stands unchanged, or left the table and its number was not given to another. */
export function checkFrozen(t: ExecutionContext, listing: string, rows: readonly string[]): void {
  const golden = goldenRows(listing, rows);
  const byName = new Map(rows.map((row) => [rowName(row), row]));
  t.is(byName.size, rows.length, "a number is used twice");
  for (const row of golden) t.is(byName.get(rowName(row)) ?? row, row);
  const known = new Set(golden.map(rowName));
  const added = rows.filter((row) => !known.has(rowName(row)));
  t.deepEqual(added, [], "new rows are recorded with DAZZLE_RECORD_GOLDEN=1");
}
