import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT_DIRECTORY = fileURLToPath(new URL("../..", import.meta.url));

export interface Source {
  /** From the workspace's root, with "/" between parts. */
  readonly path: string;
  readonly text: string;
  /** The text with comments and the insides of strings blanked, line by line as it was. */
  readonly code: string;
  readonly imports: readonly Import[];
}

export interface Import {
  readonly specifier: string;
  /** Erased when it is compiled. */
  readonly typeOnly: boolean;
}

const NOT_SOURCES = new Set(["node_modules", "dist", "build", ".git", ".dazzle", "mnt"]);

/** The files under a directory of the workspace whose names end so. */
export function sourcesUnder(directory: string, ...endings: string[]): Source[] {
  const found: Source[] = [];
  const walk = (path: string) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (NOT_SOURCES.has(entry.name)) continue;
      const inside = join(path, entry.name);
      if (entry.isDirectory()) walk(inside);
      else if (endings.some((ending) => entry.name.endsWith(ending))) found.push(readSource(inside));
    }
  };
  walk(join(ROOT_DIRECTORY, directory));
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function readSource(path: string): Source {
  const text = readFileSync(path, "utf8");
  return { path: relative(ROOT_DIRECTORY, path), text, code: blanked(text, true), imports: importsOf(blanked(text, false)) };
}

const COMMENT_OR_STRING = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`/g;

function blanked(text: string, strings: boolean): string {
  return text.replace(COMMENT_OR_STRING, (match) => {
    if (match.startsWith("/")) return match.replace(/[^\n]/g, " ");
    // What a template computes is code.
    return strings ? match.replace(/\$\{[^}]*\}|[^\n]/g, (part) => (part.length > 1 ? part : " ")) : match;
  });
}

const IMPORT = /\b(import|export)\s+(type\s+)?(?:([\w$*\s{},]+?)\s+from\s+)?"([^"\n]+)"|\bimport\(\s*"([^"\n]+)"/g;

function importsOf(code: string): Import[] {
  return [...code.matchAll(IMPORT)].map(([, , typeOnly, names, specifier, dynamic]) => ({
    specifier: (specifier ?? dynamic) as string,
    typeOnly: typeOnly !== undefined || onlyTypes(names),
  }));
}

function onlyTypes(names: string | undefined): boolean {
  const list = names?.match(/^\{([\s\S]*)\}$/)?.[1];
  if (list === undefined) return false;
  return list
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "")
    .every((name) => name.startsWith("type "));
}

/** Where a relative import leads, from the workspace's root. */
export function resolved(source: Source, specifier: string): string {
  return join(dirname(source.path), specifier);
}
