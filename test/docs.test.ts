import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ErrorCode, Message } from "@dazzle/core";
import { Problem } from "@dazzle/fsck";
import test from "ava";
import { ROOT_DIRECTORY, sourcesUnder } from "./support/sources.ts";

const PAGES = [
  ...["README.md", "CONTRIBUTING.md", "CHANGELOG.md"],
  ...readdirSync(join(ROOT_DIRECTORY, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => join("docs", name)),
];

function pageText(path: string): string {
  return readFileSync(join(ROOT_DIRECTORY, path), "utf8");
}

/** The first two cells of the table rows that start with a number. */
function numberedRows(text: string): string[] {
  return [...text.matchAll(/^\| (\d+) \| (\w+) \|/gm)].map(([, number, name]) => `${number} ${name}`);
}

test("what a page links to is there", (t) => {
  const broken = PAGES.flatMap((page) =>
    [...pageText(page).matchAll(/\]\((?!https?:)([^)#]+)(#[^)]*)?\)/g)]
      .map(([, target]) => target as string)
      .filter((target) => !existsSync(join(ROOT_DIRECTORY, dirname(page), target)))
      .map((target) => `${page}: ${target}`),
  );
  t.deepEqual(broken, []);
});

test("no page has a merge's leftovers", (t) => {
  t.deepEqual(
    PAGES.filter((page) => /^(<{7}|={7}|>{7})/m.test(pageText(page))),
    [],
  );
});

test("every page is reached from the index", (t) => {
  const index = pageText("docs/README.md");
  t.deepEqual(
    PAGES.filter((page) => page.startsWith("docs/") && page !== "docs/README.md" && !index.includes(`](${page.slice(5)})`)),
    [],
  );
});

test("every rule that is named has its place on the rules' page", (t) => {
  const rules = new Set([...pageText("docs/protocol.md").matchAll(/^### (\d+)\. /gm)].map(([, number]) => number as string));
  const texts = [
    ...PAGES.map((path) => ({ path, text: pageText(path) })),
    ...["packages", "test"].flatMap((directory) => sourcesUnder(directory, ".ts", ".pml", ".c")),
  ];
  const named = texts.flatMap(({ path, text }) =>
    [...text.matchAll(/\brules?\s+(?:\* )?(\d+(?:(?:, | and | to |–)\d+)*)/g)].flatMap(([, numbers]) =>
      [...(numbers as string).matchAll(/\d+/g)].map(([number]) => ({ path, number })),
    ),
  );
  t.true(named.length > 0);
  t.deepEqual(
    named.filter(({ number }) => !rules.has(number)),
    [],
  );
});

test("what the rules' page names as their place and their guard is there", (t) => {
  const named = [...pageText("docs/protocol.md").matchAll(/`([\w/.-]+\.(?:ts|pml))`/g)].map(([, path]) => path as string);
  t.true(named.length > 0);
  t.deepEqual(
    named.filter((path) => !existsSync(join(ROOT_DIRECTORY, path.startsWith("test/") ? path : join("packages", path)))),
    [],
  );
});

test("the wire's page lists every message and every error", (t) => {
  const rows = [...Object.entries(Message), ...Object.entries(ErrorCode)].map(([name, { id }]) => `${id} ${name}`);
  t.deepEqual(numberedRows(pageText("docs/wire.md")).sort(), rows.sort());
});

test("fsck's page lists every problem, with what it means", (t) => {
  const rows = [...pageText("docs/fsck.md").matchAll(/^\| (\w+) \| ([^|]+) \|$/gm)].map(([, name, means]) => `${name}: ${means}`);
  t.deepEqual(
    rows.filter((row) => row !== "problem: means"),
    Object.entries(Problem).map(([name, means]) => `${name}: ${means}`),
  );
});

test("the lines of the log that the operations page explains are lines that some program writes", (t) => {
  const lines = [...pageText("docs/operations.md").matchAll(/^\| `([^`]+ [^`]+)` \| [^|]+ \| [^|]+ \|$/gm)].map(
    ([, line]) => line as string,
  );
  const sources = sourcesUnder("packages", ".ts").filter(({ path }) => path.includes("/src/"));
  t.true(lines.length > 0);
  t.deepEqual(
    lines.filter((line) => !sources.some(({ text }) => text.includes(line))),
    [],
  );
});

test("the command's help and the README's table name every command", (t) => {
  const main = pageText("packages/cli/src/main.ts");
  const commands = [...main.matchAll(/^ {2}"?([a-z-]+)"?: async \(\) =>/gm)].map(([, name]) => name as string);
  const help = [...main.matchAll(/^ {2}([a-z-]+) {2,}\S/gm)].map(([, name]) => name as string);
  const table = [...pageText("README.md").matchAll(/^\| `dazzle ([a-z-]+)/gm)].map(([, name]) => name as string);
  t.true(commands.length > 0);
  t.deepEqual(help.sort(), commands.sort());
  t.deepEqual([...new Set(table)].sort(), commands);
});
