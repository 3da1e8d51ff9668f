/** The channel between a process and the one of this program that started it. */

/** What a started process tells: that it does what it was started for, or why it cannot. */
export type Report =
  | { readonly type: "ready"; readonly what: string; readonly fields: Readonly<Record<string, unknown>> }
  | { readonly type: "failed"; readonly line: string };

/** `bound`: stops when its starter is gone. `until-ready`: only as long as it is not ready. */
export type Supervision = "bound" | "until-ready";

export const SUPERVISION_VARIABLE = "DAZZLE_SUPERVISION";

/** Resolves when the report is handed over, at once where nobody listens. */
export function report(message: Report): Promise<void> {
  if (process.send === undefined || !process.connected) return Promise.resolve();
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

/** Runs `stop` at the first SIGINT, SIGTERM or SIGHUP, and when the starter that this process is bound to is gone. Returns the function
 * by which a process started until it is ready says that it is. */
export function onStop(stop: (reason: string) => void): { ready(): void } {
  let asked = false;
  const once = (reason: string) => {
    if (asked) return;
    asked = true;
    stop(reason);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => once(signal));
  const gone = () => once("its starter is gone");
  process.once("disconnect", gone);
  return {
    ready: () => {
      if (process.env[SUPERVISION_VARIABLE] !== "until-ready") return;
      process.off("disconnect", gone);
      if (process.connected) process.disconnect();
    },
  };
}
