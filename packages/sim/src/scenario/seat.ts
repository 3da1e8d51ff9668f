import { assert, type FileSystem } from "@dazzle/core";
import type { SimMount } from "../cluster.ts";
import { Workload } from "../model/workload.ts";
import type { WorkloadOptions } from "../model/workload-options.ts";

/** Where one mount after the other works: the next one begins where the last one was killed. */
export class Seat {
  readonly name: string;
  /** Fsyncs that go on beside other operations. */
  readonly syncs = new Set<Promise<void>>();
  #mount: SimMount | null = null;
  #workload: Workload | null = null;

  constructor(name: string) {
    this.name = name;
  }

  get mount(): SimMount {
    assert(this.#mount !== null, `${this.name} has a mount`);
    return this.#mount;
  }

  get workload(): Workload {
    assert(this.#workload !== null, `${this.name} has a workload`);
    return this.#workload;
  }

  get fileSystem(): FileSystem {
    return this.mount.fileSystem;
  }

  took(mount: SimMount): void {
    this.#mount = mount;
  }

  begin(options: WorkloadOptions): void {
    this.#workload = new Workload(options);
  }

  kill(): void {
    this.mount.instance.kill();
    this.syncs.clear();
  }

  syncBeside(failed: (error: unknown) => void): void {
    const sync = this.workload.sync();
    this.syncs.add(sync);
    sync.then(
      () => this.syncs.delete(sync),
      (error) => {
        if (this.syncs.delete(sync)) failed(error);
      },
    );
  }
}
