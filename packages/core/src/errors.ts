/** Whether trying again can help: never, once the map was refreshed, or after a while. */
export type Retry = "never" | "after-refresh" | "later";

interface ErrorRow {
  readonly id: number;
  readonly errno: string;
  readonly retry: Retry;
}

/** Every expected failure. Ids travel on the wire and are never reused. */
export const ErrorCode = {
  notFound: { id: 1, errno: "ENOENT", retry: "never" },
  staleMap: { id: 2, errno: "EIO", retry: "after-refresh" },
  logSealed: { id: 3, errno: "EIO", retry: "never" },
  versionReplaced: { id: 4, errno: "EIO", retry: "after-refresh" },
  bootChanged: { id: 5, errno: "EIO", retry: "later" },
  noSpace: { id: 6, errno: "ENOSPC", retry: "never" },
  fragmentMissing: { id: 7, errno: "EIO", retry: "never" },
  fragmentDamaged: { id: 8, errno: "EIO", retry: "never" },
  segmentLost: { id: 9, errno: "EIO", retry: "never" },
  unreachable: { id: 10, errno: "EIO", retry: "later" },
  timedOut: { id: 11, errno: "EIO", retry: "later" },
  cancelled: { id: 12, errno: "EINTR", retry: "never" },
  diskFailed: { id: 13, errno: "EIO", retry: "later" },
  corrupt: { id: 14, errno: "EIO", retry: "never" },
  badMessage: { id: 15, errno: "EPROTO", retry: "never" },
  versionConflict: { id: 16, errno: "EAGAIN", retry: "after-refresh" },
  expelled: { id: 17, errno: "EIO", retry: "never" },
  notReady: { id: 18, errno: "EAGAIN", retry: "later" },
  exists: { id: 19, errno: "EEXIST", retry: "never" },
  notDirectory: { id: 20, errno: "ENOTDIR", retry: "never" },
  isDirectory: { id: 21, errno: "EISDIR", retry: "never" },
  notEmpty: { id: 22, errno: "ENOTEMPTY", retry: "never" },
  invalid: { id: 23, errno: "EINVAL", retry: "never" },
  notPermitted: { id: 24, errno: "EPERM", retry: "never" },
  nameTooLong: { id: 25, errno: "ENAMETOOLONG", retry: "never" },
  fileTooLarge: { id: 26, errno: "EFBIG", retry: "never" },
  tooManyLinks: { id: 27, errno: "EMLINK", retry: "never" },
  noAttribute: { id: 28, errno: "ENODATA", retry: "never" },
  readOnly: { id: 29, errno: "EROFS", retry: "never" },
  badHandle: { id: 30, errno: "EBADF", retry: "never" },
  notSupported: { id: 31, errno: "ENOSYS", retry: "never" },
  operationNotSupported: { id: 32, errno: "EOPNOTSUPP", retry: "never" },
  tooBig: { id: 33, errno: "E2BIG", retry: "never" },
  outOfRange: { id: 34, errno: "ERANGE", retry: "never" },
  accessDenied: { id: 35, errno: "EACCES", retry: "never" },
  wrongCluster: { id: 36, errno: "EIO", retry: "never" },
  outOfOrder: { id: 37, errno: "EIO", retry: "later" },
  lockConflict: { id: 38, errno: "EAGAIN", retry: "never" },
  inputOutput: { id: 39, errno: "EIO", retry: "never" },
  wrongStore: { id: 42, errno: "EIO", retry: "never" },
  deadlock: { id: 41, errno: "EDEADLK", retry: "never" },
  staleName: { id: 62, errno: "ESTALE", retry: "never" },
  tokenLost: { id: 60, errno: "EIO", retry: "never" },
  wrongVersion: { id: 43, errno: "EPROTO", retry: "never" },
  noSuchOffset: { id: 40, errno: "ENXIO", retry: "never" },
  noLocks: { id: 61, errno: "ENOLCK", retry: "never" },
} as const satisfies Record<string, ErrorRow>;

export type ErrorName = keyof typeof ErrorCode;

/** An expected failure: a row of the table, with what it happened to. It carries no stack: a missing name or attribute is
 * an everyday answer, and recording where it was noticed cost more than the rest of the operation. */
export class DazzleError extends Error {
  override name = "DazzleError";
  readonly code: ErrorName;

  constructor(code: ErrorName, detail: string) {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(`${code}: ${detail}`);
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
  }

  /** The message without the code in front. */
  get detail(): string {
    return this.message.slice(this.code.length + 2);
  }

  get errno(): string {
    return ErrorCode[this.code].errno;
  }

  get retry(): Retry {
    return ErrorCode[this.code].retry;
  }
}

/** Nobody listens at an address, on a machine that says so: the process that did is gone, or has yet to start. */
export class RefusedError extends DazzleError {
  constructor(detail: string) {
    super("unreachable", detail);
  }
}

/** What went wrong, for a message that is about something else: without the code of a `DazzleError`. */
export function reasonOf(error: unknown): string {
  if (error instanceof DazzleError) return error.detail;
  return error instanceof Error ? error.message : String(error);
}

export function isDazzleError(error: unknown, ...codes: ErrorName[]): error is DazzleError {
  return error instanceof DazzleError && (codes.length === 0 || codes.includes(error.code));
}

const NAME_BY_ID = new Map<number, ErrorName>(Object.entries(ErrorCode).map(([name, row]) => [row.id, name as ErrorName]));

export function errorNameById(id: number): ErrorName {
  return NAME_BY_ID.get(id) ?? "badMessage";
}
