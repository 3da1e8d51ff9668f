import type { Logger, LogLevel } from "@dazzle/core";

const RANK: Readonly<Record<LogLevel, number>> = { info: 0, warning: 1, error: 2 };

function printed(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(value.message);
  if (typeof value === "string") return /^[\w.:/@+-]+$/.test(value) ? value : JSON.stringify(value);
  if (typeof value === "object" && value !== null)
    return JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? String(part) : part));
  return String(value);
}

/** One line a happening, from `least` on: `2000-01-01T00:00:00.000Z warning what happened key=value …`. */
export function lineLogger(stream: { write(text: string): unknown }, least: LogLevel = "info"): Logger {
  return (level, message, fields = {}) => {
    if (RANK[level] < RANK[least]) return;
    const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${printed(value)}`);
    stream.write(`${new Date().toISOString()} ${level} ${message.replaceAll("\n", "\\n")}${pairs.join("")}\n`);
  };
}
