import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ok } from "../run.ts";
import { tool } from "../tool.ts";

const LINES = 500;

/** Every mount appends lines of its own to one file at the same time: none is lost, torn or out of its writer's order. */
export async function checkAppends(mounts: readonly string[], folder: string): Promise<void> {
  await mkdir(join(mounts[0] as string, folder), { recursive: true });
  const log = join(folder, "appended.log");
  const program = await tool();
  await Promise.all(
    mounts.map((mount, place) => ok(program, ["append", join(mount, log), `mount${place}`, String(LINES)], { timeoutMs: 600_000 })),
  );
  const text = await readFile(join(mounts.at(-1) as string, log), "utf8");
  const lines = text.split("\n").filter((line) => line !== "");
  if (lines.length !== LINES * mounts.length) throw new Error(`${lines.length} lines of ${LINES * mounts.length} are there`);
  for (const place of mounts.keys()) {
    const own = lines.filter((line) => line.startsWith(`mount${place} `)).map((line) => Number(line.split(" ")[1]));
    if (own.some((number, index) => number !== own[0]! + index)) throw new Error(`the lines of mount ${place} are torn or out of order`);
  }
}

/** Every mount makes files in one directory at the same time; each sees all of them afterwards. */
export async function checkCreates(mounts: readonly string[], folder: string, files: number): Promise<void> {
  await mkdir(join(mounts[0] as string, folder), { recursive: true });
  await Promise.all(
    mounts.map(async (mount, place) => {
      for (let number = 0; number < files; number++) await writeFile(join(mount, folder, `file-${place}-${number}`), `${place}.${number}`);
    }),
  );
  for (const mount of mounts) {
    const listed = (await ok("ls", [join(mount, folder)])).split("\n").filter((name) => name.startsWith("file-"));
    if (listed.length !== files * mounts.length) throw new Error(`${mount} lists ${listed.length} files of ${files * mounts.length}`);
    for (const place of mounts.keys()) {
      const text = await readFile(join(mount, folder, `file-${place}-0`), "utf8");
      if (text !== `${place}.0`) throw new Error(`${mount} reads "${text}" in a file of mount ${place}`);
    }
  }
}

/** Transactions on one database from all mounts at once. */
export async function checkSqlite(mounts: readonly string[], folder: string, transactions: number): Promise<void> {
  await mkdir(join(mounts[0] as string, folder), { recursive: true });
  const database = (mount: string) => join(mount, folder, "counts.db");
  const sqlite = (mount: string, sql: string) => ok("sqlite3", ["-cmd", ".timeout 60000", database(mount), sql], { timeoutMs: 600_000 });
  await sqlite(
    mounts[0] as string,
    "PRAGMA journal_mode=DELETE; CREATE TABLE rows (mount INTEGER, number INTEGER); CREATE TABLE total (n INTEGER); INSERT INTO total VALUES (0);",
  );
  await Promise.all(
    mounts.map(async (mount, place) => {
      for (let number = 0; number < transactions; number++)
        await sqlite(mount, `BEGIN IMMEDIATE; INSERT INTO rows VALUES (${place}, ${number}); UPDATE total SET n = n + 1; COMMIT;`);
    }),
  );
  for (const mount of mounts) {
    const answer = (await sqlite(mount, "PRAGMA integrity_check; SELECT count(*), (SELECT n FROM total) FROM rows;")).trim();
    const wanted = `ok\n${transactions * mounts.length}|${transactions * mounts.length}`;
    if (answer !== wanted)
      throw new Error(`${mount}: the database says ${answer.replaceAll("\n", " ")}, not ${wanted.replaceAll("\n", " ")}`);
  }
}

/** Commits to one repository from all mounts, each in a working tree of its own. */
export async function checkGit(mounts: readonly string[], folder: string, commits: number): Promise<void> {
  await mkdir(join(mounts[0] as string, folder), { recursive: true });
  const git = (cwd: string, ...args: string[]) =>
    ok("git", ["-c", "user.name=z", "-c", "user.email=z@example.org", "-c", "gc.auto=0", "-c", "safe.directory=*", ...args], {
      cwd,
      timeoutMs: 600_000,
    });
  const home = join(mounts[0] as string, folder);
  await git(home, "init", "--bare", "-q", "shared.git");
  await Promise.all(
    mounts.map(async (mount, place) => {
      const own = join(mount, folder);
      await git(own, "clone", "-q", "shared.git", `tree-${place}`);
      const tree = join(own, `tree-${place}`);
      for (let number = 0; number < commits; number++) {
        await writeFile(join(tree, `file-${place}-${number}`), `${place} ${number}`);
        await git(tree, "add", ".");
        await git(tree, "commit", "-q", "-m", `${place} ${number}`);
        await git(tree, "push", "-q", "origin", `HEAD:refs/heads/mount-${place}`);
      }
    }),
  );
  for (const mount of mounts) {
    const repository = join(mount, folder, "shared.git");
    await git(repository, "fsck", "--strict");
    for (const place of mounts.keys()) {
      const count = (await git(repository, "rev-list", "--count", `refs/heads/mount-${place}`)).trim();
      if (count !== String(commits)) throw new Error(`${mount}: branch mount-${place} has ${count} commits of ${commits}`);
    }
  }
}
