import type { Caller } from "@dazzle/core";

/** Who asks. The signal is made when somebody looks at it: most operations never do. */
export class RequestCaller implements Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  interrupted = false;
  #controller: AbortController | undefined;

  constructor(uid: number, gid: number, pid: number) {
    this.uid = uid;
    this.gid = gid;
    this.pid = pid;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.interrupted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  interrupt(): void {
    this.interrupted = true;
    this.#controller?.abort();
  }
}
