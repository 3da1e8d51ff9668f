import { parentOf } from "@dazzle/runtime";

/** The channel between a process and the one of this program that started it. */

/** What a started process tells: that it does what it was started for, or why it cannot. */
export type Report =
  | { readonly type: "ready"; readonly what: string; readonly fields: Readonly<Record<string, unknown>> }
  | { readonly type: "failed"; readonly line: string };

/** `bound`: stops when its starter is gone. `until-ready`: only as long as it is not ready. */
export type Supervision = "bound" | "until-ready";

export const SUPERVISION_VARIABLE = "DAZZLE_SUPERVISION";

const NPM_INTERVAL_MS = 500;

/** Resolves when the report is handed over, at once where nobody listens. */
export function report(message: Report): Promise<void> {
  if (process.send === undefined || !process.connected) return Promise.resolve();
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

/** Runs `stop` at every SIGINT, SIGTERM and SIGHUP, and when the starter that this process is bound to is gone; `signals` counts. `ready` of
 * what it returns is called by a process that is bound only until it is ready. */
export function onStop(stop: (reason: string, signals: number) => void): { ready(): void } {
  let signals = 0;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop(signal, ++signals));
  const gone = () => stop("its starter is gone", signals);
  process.once("disconnect", gone);
  if (process.env[SUPERVISION_VARIABLE] === undefined && process.env.npm_command !== undefined) followNpm(gone);
  return {
    ready: () => {
      if (process.env[SUPERVISION_VARIABLE] !== "until-ready") return;
      process.off("disconnect", gone);
      if (process.connected) process.disconnect();
    },
  };
}

/** npm and npx run a program under a shell and hand their signals to that alone: it ends, or waits, and the program never hears of
 * them. So what they started ends with them. */
function followNpm(gone: () => void): void {
  const shell = process.ppid;
  const npm = parentOf(shell);
  const timer = setInterval(() => {
    if (process.ppid === shell && parentOf(shell) === npm) return;
    clearInterval(timer);
    gone();
  }, NPM_INTERVAL_MS);
  timer.unref();
}
