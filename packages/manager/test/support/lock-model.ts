import { LockKind, type LockOutcome } from "@dazzle/core";
import type { LockRequest } from "../../src/locks/lock-table.ts";

/** Locks kept byte by byte: who has which, and who waits, in the order in which they came. */
export class LockModel {
  readonly #bytes: number;
  /** By file, kind and byte: what each owner has there. */
  readonly #held = new Map<string, Map<string, "read" | "write">>();
  waiting: Array<{ ino: number; request: LockRequest }> = [];
  readonly granted: number[] = [];

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  at(ino: number, kind: LockKind, byte: number): Map<string, "read" | "write"> {
    const key = `${ino}/${kind}/${byte}`;
    let owners = this.#held.get(key);
    if (owners === undefined) {
      owners = new Map();
      this.#held.set(key, owners);
    }
    return owners;
  }

  blockers(ino: number, request: LockRequest): Set<string> {
    const found = new Set<string>();
    if (request.type === "unlock") return found;
    for (let byte = request.start; byte <= Math.min(request.end, this.#bytes - 1); byte++)
      for (const [owner, type] of this.at(ino, request.kind, byte))
        if (owner !== nameOf(request) && (type === "write" || request.type === "write")) found.add(owner);
    return found;
  }

  lock(ino: number, request: LockRequest, wait: boolean): LockOutcome {
    const outcome = this.#outcome(ino, request, wait);
    this.#wake();
    return outcome;
  }

  #outcome(ino: number, request: LockRequest, wait: boolean): LockOutcome {
    if (this.blockers(ino, request).size === 0) {
      this.#put(ino, request);
      return "granted";
    }
    if (request.kind === LockKind.flock) this.#put(ino, { ...request, type: "unlock" });
    if (!wait) return "conflict";
    if (request.kind === LockKind.fcntl && this.#reaches(this.blockers(ino, request), nameOf(request), new Set())) return "deadlock";
    this.waiting.push({ ino, request });
    return "waiting";
  }

  #reaches(from: Set<string>, owner: string, seen: Set<string>): boolean {
    for (const next of from) {
      if (next === owner) return true;
      if (seen.has(next)) continue;
      seen.add(next);
      for (const { ino, request } of this.waiting)
        if (request.kind === LockKind.fcntl && nameOf(request) === next && this.#reaches(this.blockers(ino, request), owner, seen))
          return true;
    }
    return false;
  }

  #put(ino: number, request: LockRequest): void {
    for (let byte = request.start; byte <= Math.min(request.end, this.#bytes - 1); byte++) {
      if (request.type === "unlock") this.at(ino, request.kind, byte).delete(nameOf(request));
      else this.at(ino, request.kind, byte).set(nameOf(request), request.type);
    }
  }

  #wake(): void {
    for (;;) {
      const place = this.waiting.findIndex(({ ino, request }) => this.blockers(ino, request).size === 0);
      if (place < 0) return;
      const [{ ino, request }] = this.waiting.splice(place, 1) as [{ ino: number; request: LockRequest }];
      this.#put(ino, request);
      this.granted.push(request.number);
    }
  }

  withdraw(mount: number, ino: number, numbers: ReadonlySet<number>): void {
    this.waiting = this.waiting.filter(
      (waiter) => waiter.ino !== ino || waiter.request.mount !== mount || numbers.has(waiter.request.number),
    );
    this.#wake();
  }

  dropMount(mount: number): void {
    this.waiting = this.waiting.filter(({ request }) => request.mount !== mount);
    for (const owners of this.#held.values()) for (const owner of owners.keys()) if (owner.startsWith(`${mount}/`)) owners.delete(owner);
    this.#wake();
  }
}

export function nameOf({ mount, owner }: { mount: number; owner: string }): string {
  return `${mount}/${owner}`;
}
