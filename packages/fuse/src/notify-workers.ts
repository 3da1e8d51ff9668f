import { Worker } from "node:worker_threads";
import { assert } from "@dazzle/core";
import { NOTIFICATIONS_MAX } from "./engine.ts";

/** As text: it runs the same from sources and from the built package, and needs nothing but `fs`. */
const WORKER_SOURCE = `
const { writeSync } = require("node:fs");
const { parentPort, workerData } = require("node:worker_threads");
parentPort.on("message", (message) => {
  let errno = 0;
  try {
    writeSync(workerData.fd, message);
  } catch (error) {
    errno = -error.errno;
  }
  parentPort.postMessage(errno);
});
`;

/** Threads that write notifications, one at a time each: a notification may wait for requests that the event loop has yet to answer.
 * Not libuv's own thread pool: a few that wait would stop the filesystem's disk I/O, and so the requests they wait for. */
export class NotifyWorkers {
  readonly #fd: number;
  readonly #idle: Worker[] = [];
  readonly #waiting = new Map<Worker, { resolve: (errno: number) => void; reject: (error: unknown) => void }>();
  #closed = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Resolves to 0 or the errno. At most NOTIFICATIONS_MAX.node and one at once. */
  write(message: Uint8Array): Promise<number> {
    assert(!this.#closed, "no notification after closing: the descriptor's number may be another's by then");
    return new Promise((resolve, reject) => {
      const worker = this.#idle.pop() ?? this.#start();
      this.#waiting.set(worker, { resolve, reject });
      worker.postMessage(message);
    });
  }

  close(): void {
    this.#closed = true;
    for (const worker of this.#idle.splice(0)) void worker.terminate();
  }

  #start(): Worker {
    assert(this.#waiting.size <= NOTIFICATIONS_MAX.node, "notifications at once are bounded");
    const worker = new Worker(WORKER_SOURCE, { eval: true, workerData: { fd: this.#fd }, execArgv: [], stdin: false });
    // The mount keeps the process alive, not these.
    worker.unref();
    worker.on("message", (errno: number) => {
      const waiting = this.#waiting.get(worker);
      this.#waiting.delete(worker);
      if (this.#closed) void worker.terminate();
      else this.#idle.push(worker);
      waiting?.resolve(errno);
    });
    worker.on("error", (error) => {
      const waiting = this.#waiting.get(worker);
      this.#waiting.delete(worker);
      waiting?.reject(error);
    });
    return worker;
  }
}
