import { DazzleError } from "@dazzle/core";

/** What went wrong with a file, as the port tells it: `notFound`, `noSpace` or `diskFailed`, with the path. */
export function diskError(what: string, path: string, error: unknown): DazzleError {
  if (error instanceof DazzleError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const detail = `${what} ${path}: ${message}`;
  if (code === "ENOENT") return new DazzleError("notFound", detail);
  return new DazzleError(code === "ENOSPC" || code === "EDQUOT" ? "noSpace" : "diskFailed", detail);
}
