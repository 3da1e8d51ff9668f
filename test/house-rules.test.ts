import { readdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join } from "node:path";
import test from "ava";
import { ROOT_DIRECTORY, resolved, type Source, sourcesUnder } from "./support/sources.ts";

/** Who may import whom. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  log: ["core"],
  storage: ["core"],
  manager: ["core", "log"],
  client: ["core", "log"],
  cleaner: ["core", "log"],
  fsck: ["core", "log", "manager"],
  fuse: ["core"],
  runtime: ["core"],
  node: ["core", "log", "storage", "manager", "cleaner"],
  sim: ["core", "log", "storage", "manager", "client", "cleaner", "node", "fsck"],
  cli: ["core", "log", "storage", "manager", "client", "cleaner", "fuse", "runtime", "node", "fsck"],
};

/** Packages that know the world through core's ports alone, so that what ships is what is simulated. */
const PORTED = ["core", "log", "storage", "manager", "client", "cleaner", "node", "fsck"];
const PURE_BUILTINS = new Set(["node:zlib", "node:buffer", "node:events"]);
const PURE_PACKAGES = new Set(["msgpackr"]);
const WORLD = [
  /\bDate\.now\b/,
  /\bnew Date\b/,
  /\bperformance\./,
  /\bset(Timeout|Interval|Immediate)\b/,
  /(?<![.\w])process\.(hrtime|env|nextTick|argv|cwd|pid|on|exit|kill)\b/,
  /\bMath\.random\b/,
  /(?<![.\w])crypto\./,
  /(?<![.\w#])fetch\(/,
  /\bnew (WebSocket|Worker)\b/,
  /\bAbortSignal\.timeout\b/,
];

const LINES_MAX = 500;
const PACKAGES = readdirSync(join(ROOT_DIRECTORY, "packages")).sort();

interface Manifest {
  readonly name: string;
  readonly description?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

function readJson<T>(...path: string[]): T {
  return JSON.parse(readFileSync(join(ROOT_DIRECTORY, ...path), "utf8")) as T;
}

function manifest(name: string): Manifest {
  return readJson<Manifest>("packages", name, "package.json");
}

const NAME_OF = new Map(PACKAGES.map((name) => [manifest(name).name, name]));

function shipped(name: string): Source[] {
  return sourcesUnder(`packages/${name}/src`, ".ts");
}

function tests(): Source[] {
  return [...PACKAGES.flatMap((name) => sourcesUnder(`packages/${name}`, ".ts")), ...sourcesUnder("test", ".ts")].filter(isTest);
}

function isTest(source: Source): boolean {
  return !/^packages\/[^/]+\/src\//.test(source.path);
}

function everything(): Source[] {
  return [...PACKAGES.flatMap(shipped), ...tests()];
}

/** `@scope/name` or `name` of a specifier that may go on into the package. */
function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** The lines of a source that match, as a person looks for them. */
function linesWith(source: Source, pattern: RegExp, text = source.code): string[] {
  return text.split("\n").flatMap((line, index) => (pattern.test(line) ? [`${source.path}:${index + 1} ${line.trim()}`] : []));
}

test("the table names every package", (t) => {
  t.deepEqual(PACKAGES, Object.keys(MAY_IMPORT).sort());
});

for (const name of PACKAGES) {
  const dependencies = Object.keys(manifest(name).dependencies ?? {});

  test(`${name} depends on whom the table allows, and its project references are the same`, (t) => {
    const ours = dependencies.flatMap((dependency) => NAME_OF.get(dependency) ?? []);
    t.deepEqual(
      ours.filter((other) => !MAY_IMPORT[name]?.includes(other)),
      [],
    );
    const { references } = readJson<{ references: Array<{ path: string }> }>("packages", name, "tsconfig.json");
    t.deepEqual(references.map((reference) => reference.path.replace("../", "")).sort(), ours.sort());
  });

  test(`${name} imports what its package.json names`, (t) => {
    const wrong: string[] = [];
    for (const source of shipped(name)) {
      for (const { specifier } of source.imports) {
        if (specifier.startsWith(".") || isBuiltin(specifier)) continue;
        if (!dependencies.includes(packageOf(specifier))) wrong.push(`${source.path} imports ${specifier}`);
      }
    }
    t.deepEqual(wrong, []);
  });

  test(`no cycles between the files of ${name}`, (t) => {
    t.deepEqual(cycles(shipped(name)), []);
  });
}

test("a relative import stays in its package and names the file", (t) => {
  const wrong: string[] = [];
  for (const source of everything()) {
    const home = source.path.startsWith("packages/") ? source.path.split("/").slice(0, 2).join("/") : "test";
    for (const { specifier } of source.imports) {
      if (!specifier.startsWith(".")) continue;
      const target = resolved(source, specifier);
      // Tests share their supports.
      const stays = target.startsWith(`${home}/`) || (isTest(source) && /^packages\/[^/]+\/test\/support\//.test(target));
      if (!stays || !/\.(ts|mjs|json)$/.test(specifier)) wrong.push(`${source.path} imports ${specifier}`);
    }
  }
  t.deepEqual(wrong, []);
});

test("a package of ours is imported by its name alone", (t) => {
  const wrong = everything().flatMap((source) =>
    source.imports
      .filter(({ specifier }) => NAME_OF.has(packageOf(specifier)) && !NAME_OF.has(specifier))
      .map(({ specifier }) => `${source.path} imports ${specifier}`),
  );
  t.deepEqual(wrong, []);
});

test("no clock, timer, randomness, file or socket in what is simulated", (t) => {
  const wrong: string[] = [];
  for (const source of PORTED.flatMap(shipped)) {
    for (const { specifier } of source.imports) {
      if (specifier.startsWith(".") || NAME_OF.has(packageOf(specifier))) continue;
      if (isBuiltin(specifier) ? !PURE_BUILTINS.has(specifier) : !PURE_PACKAGES.has(packageOf(specifier)))
        wrong.push(`${source.path} imports ${specifier}`);
    }
    for (const pattern of WORLD) wrong.push(...linesWith(source, pattern));
  }
  t.deepEqual(wrong, []);
});

test("no default exports", (t) => {
  t.deepEqual(
    everything().flatMap((source) => linesWith(source, /\bexport\s+default\b|\bas default\b/)),
    [],
  );
});

test("only index.ts is a barrel", (t) => {
  const barrels = everything().filter((source) => !source.path.endsWith("/index.ts") && /^export \*/m.test(source.code));
  t.deepEqual(
    barrels.map((source) => source.path),
    [],
  );
});

test("every test runs", (t) => {
  const left = /\btest(\.\w+)*\.(only|skip|failing|todo)\b/;
  t.deepEqual(
    tests().flatMap((source) => linesWith(source, left)),
    [],
  );
});

test("nothing is left to be done in a comment", (t) => {
  const sources = [...everything(), ...sourcesUnder("packages", ".c", ".mjs", ".sh"), ...sourcesUnder("test", ".c", ".sh")];
  const marker = new RegExp(`\\b(${["TO", "FIX"].map((word, index) => word + ["DO", "ME"][index]).join("|")})\\b`);
  t.deepEqual(
    sources.flatMap((source) => linesWith(source, marker, source.text)),
    [],
  );
});

test(`no file is longer than ${LINES_MAX} lines`, (t) => {
  const long = everything()
    .map((source) => ({ path: source.path, lines: source.text.trimEnd().split("\n").length }))
    .filter(({ lines }) => lines > LINES_MAX);
  t.deepEqual(long, []);
});

test("a package says what it is in its package.json", (t) => {
  t.deepEqual(
    PACKAGES.filter((name) => !manifest(name).description),
    [],
  );
});

/** Rings of files that import each other's values, each once, as they are met. */
function cycles(sources: readonly Source[]): string[] {
  const graph = new Map(
    sources.map((source) => [
      source.path,
      source.imports
        .filter(({ specifier, typeOnly }) => specifier.startsWith(".") && !typeOnly)
        .map(({ specifier }) => resolved(source, specifier)),
    ]),
  );
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]) => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      found.push([...trail.slice(at), path].join(" -> "));
      return;
    }
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}
