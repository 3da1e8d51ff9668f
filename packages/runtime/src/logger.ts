import type { Logger, LogLevel } from "@dazzle/core";

const RANK: Readonly<Record<LogLevel, number>> = { info: 0, warning: 1, error: 2 };

function printed(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(value.message);
  if (typeof value === "string") return /^[\w.:/@+-]+$/.test(value) ? value : JSON.stringify(value);
  if (typeof value === "object" && value !== null)
    return JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? String(part) : part));
  return String(value);
}

/** How long a line that gives a reason is not written again, and how many such lines are remembered. */
const REPEAT_MS = 10_000;
const REPEATS_MAX = 1_000;

interface Repeat {
  readonly writtenMs: number;
  unwritten: number;
}

/** One line a happening, from `least` on: `2000-01-01T00:00:00.000Z warning what happened key=value …`. What is tried again and again fails in the
 * same words: a line with a `reason` is written again after 10 s at the earliest, and tells then how often it was not (`repeated=`). */
export function lineLogger(stream: { write(text: string): unknown }, least: LogLevel = "info"): Logger {
  const repeats = new Map<string, Repeat>();
  return (level, message, fields = {}) => {
    if (RANK[level] < RANK[least]) return;
    const now = new Date();
    const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${printed(value)}`);
    const text = `${level} ${message.replaceAll("\n", "\\n")}${pairs.join("")}`;
    const before = "reason" in fields ? repeats.get(text) : undefined;
    if (before !== undefined && now.getTime() - before.writtenMs < REPEAT_MS) {
      before.unwritten++;
      return;
    }
    if ("reason" in fields) {
      if (repeats.size >= REPEATS_MAX) repeats.clear();
      repeats.set(text, { writtenMs: now.getTime(), unwritten: 0 });
    }
    const repeated = before === undefined || before.unwritten === 0 ? "" : ` repeated=${before.unwritten}`;
    stream.write(`${now.toISOString()} ${text}${repeated}\n`);
  };
}
