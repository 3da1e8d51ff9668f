import { parseArgs } from "node:util";

/** Wrong usage: exit status 2. The message says what is wrong and the way out. */
export class UsageError extends Error {
  override name = "UsageError";
}

export interface Command {
  /** The first line is the synopsis. */
  readonly help: string;
  /** Resolves to the exit status. */
  run(args: readonly string[]): Promise<number>;
}

interface OptionRow {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
}

type Options = Readonly<Record<string, OptionRow>>;
type Values<Rows extends Options> = {
  readonly [Name in keyof Rows]?: Rows[Name] extends { multiple: true }
    ? readonly string[]
    : Rows[Name]["type"] extends "string"
      ? string
      : boolean;
};

/** Options, and between `least` and `most` arguments named `names`. Throws `UsageError`. */
export function parse<Rows extends Options>(
  args: readonly string[],
  options: Rows,
  names: readonly string[] = [],
): { readonly values: Values<Rows>; readonly positionals: readonly string[] } {
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError(firstSentence((error as Error).message));
  }
  const { positionals } = parsed;
  const missing = names[positionals.length];
  if (missing !== undefined) throw new UsageError(`${missing} is missing`);
  if (positionals.length > names.length) throw new UsageError(`"${positionals[names.length]}" is one argument too many`);
  return { values: parsed.values as Values<Rows>, positionals };
}

function firstSentence(text: string): string {
  return (text.split(/\. To specify|\n/)[0] as string).replace(/\.$/, "");
}

/** Runs what the first argument names. Throws `UsageError` where there is no such action. */
export function runAction(
  [action, ...args]: readonly string[],
  actions: Readonly<Record<string, (args: readonly string[]) => Promise<number>>>,
): Promise<number> {
  const run = action !== undefined && Object.hasOwn(actions, action) ? actions[action] : undefined;
  if (run !== undefined) return run(args);
  const names = Object.keys(actions).join(", ");
  throw new UsageError(action === undefined ? `what to do is missing: there are ${names}` : `there is no "${action}": there are ${names}`);
}

/** A whole number of at least `least`; undefined where the option was not given. */
export function wholeNumber(option: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least)
    throw new UsageError(`${option} takes a whole number from ${least} on, not "${text}"`);
  return value;
}
