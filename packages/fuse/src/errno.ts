import { constants } from "node:os";
import { isDazzleError } from "@dazzle/core";

const NUMBERS: Readonly<Record<string, number>> = constants.errno;

export function errnoNumber(name: string): number {
  return NUMBERS[name] ?? constants.errno.EIO;
}

export function errnoName(number: number): string {
  for (const [name, value] of Object.entries(NUMBERS)) if (value === number) return name;
  return `errno ${number}`;
}

/** What the kernel is told of a failure; undefined where it is not an expected one (EIO then, and a line in the log). */
export function errnoOf(error: unknown): number | undefined {
  return isDazzleError(error) ? errnoNumber(error.errno) : undefined;
}

/** Raised by the operations themselves, for errors that no filesystem reports. */
export class ErrnoError extends Error {
  override name = "ErrnoError";
  readonly errno: number;

  constructor(name: keyof typeof constants.errno) {
    super(name);
    this.errno = constants.errno[name];
  }
}
