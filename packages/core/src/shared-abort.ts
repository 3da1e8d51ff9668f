import { setMaxListeners } from "node:events";

/** An abort controller for whose signal any number of requests listen at once: each takes its listener away when it ends. */
export function sharedAbort(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}
