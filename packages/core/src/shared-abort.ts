import { setMaxListeners } from "node:events";

/** An abort controller for whose signal any number of requests listen at once: each takes its listener away when it ends. */
export function sharedAbort(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}

/** Runs `action` with a controller like that, which is aborted with any of `signals` until it ends. */
export async function withAbort<T>(signals: readonly AbortSignal[], action: (controller: AbortController) => Promise<T>): Promise<T> {
  const controller = sharedAbort();
  const abort = () => controller.abort();
  for (const signal of signals)
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  try {
    return await action(controller);
  } finally {
    for (const signal of signals) signal.removeEventListener("abort", abort);
  }
}
