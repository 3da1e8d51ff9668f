import {
  type Answer,
  type Caller,
  type DazzleError,
  LockKind,
  type LockRange,
  type LockRow,
  type Logger,
  type RpcPeer,
} from "@dazzle/core";
import type { LeaseGuard } from "./expulsion/lease-guard.ts";
import { FileLocks, type LockPorts } from "./file-locks.ts";
import type { SlotLink } from "./slot-link.ts";

/** Files whose locks are delegated to this mount although nobody holds any: the next lock of one asks nobody. */
const UNUSED_MAX = 4_096;
/** Files in one message. */
const DECLARED_MAX = 500;
/** Files of which managers are told again at once. */
const RETOLD_MAX = 100;

/** Advisory locks of this mount's processes: fcntl's, OFD's and flock's, file by file. */
export class Locks {
  readonly #mount: number;
  readonly #ports: LockPorts;
  readonly #logger: Logger;
  readonly #files = new Map<number, FileLocks>();
  /** INVARIANT: of `#files`, delegated and unused; who came to rest first comes first. */
  readonly #unused = new Set<FileLocks>();
  /** Files that came to rest while their manager could not be told what is held; who was not told again for longest comes first. */
  readonly #owing = new Set<FileLocks>();

  constructor(options: {
    mount: number;
    links: (ino: number) => SlotLink;
    lease: LeaseGuard;
    logger: Logger;
  }) {
    const { mount, links, lease } = options;
    let numbers = 0;
    this.#mount = mount;
    this.#logger = options.logger;
    this.#ports = {
      mount,
      lock: async (request) => (await links(request.ino).call("lock", request)).reply,
      test: async (request) => (await links(request.ino).call("testLock", request)).reply,
      declare: async (ino, file) => void (await links(ino).call("declareLocks", () => ({ mount, files: [file()], more: false }))),
      isLeased: (ino) => lease.holds(ino),
      nextNumber: () => ++numbers,
    };
  }

  /** Files of which somebody holds a lock. */
  get held(): Iterable<number> {
    return [...this.#files.values()].filter((file) => file.isHeld).map(({ ino }) => ino);
  }

  get(ino: number, owner: bigint, range: LockRange): Answer<LockRange> {
    return this.#used(ino, (file) => file.test({ ...range, kind: LockKind.fcntl, owner: nameOf(owner) }));
  }

  set(caller: Caller, ino: number, handle: number, owner: bigint, range: LockRange, wait: boolean, flock: boolean): Answer<void> {
    if (range.type === "unlock" && !this.#files.has(ino)) return undefined;
    const name = nameOf(owner);
    return this.#used(ino, (file) => {
      if (!flock && range.type !== "unlock") file.lockedThrough(handle, name);
      const request = { ...range, kind: flock ? LockKind.flock : LockKind.fcntl, owner: name };
      return file.set(request, wait, wait ? caller.signal : undefined);
    });
  }

  /** A descriptor is closed: what the process locked is free. */
  flush(ino: number, owner: bigint): Answer<void> {
    return this.#dropped(ino, (file) => file.flush(nameOf(owner)));
  }

  /** An open file is closed: what was locked through it is free. */
  release(ino: number, handle: number, flockOwner: bigint | undefined): Answer<void> {
    return this.#dropped(ino, (file) => {
      const flocked = flockOwner === undefined ? undefined : file.drop(LockKind.flock, nameOf(flockOwner));
      const locked = file.release(handle);
      return flocked === undefined ? locked : Promise.all([flocked, locked]).then(() => {});
    });
  }

  /** The manager says that a request waits no longer. */
  granted(ino: number, number: number, declared: number, order: number): void {
    this.#files.get(ino)?.granted({ number, declared, order });
  }

  /** The manager decides about the file from now on. Answers what is held. */
  async returned(ino: number): Promise<readonly LockRow[]> {
    return (await this.#files.get(ino)?.returned()) ?? [];
  }

  /** Tells a manager that may know nothing what this mount holds and waits for, of those files. */
  async declare(which: (ino: number) => boolean, peer: RpcPeer): Promise<void> {
    const inos = [...this.#files.keys()].filter(which);
    while (inos.length > 0) {
      const files = inos.splice(0, DECLARED_MAX).flatMap((ino) => this.#files.get(ino) ?? []);
      try {
        const described = files.map((file) => file.describe());
        await peer.call("declareLocks", { mount: this.#mount, files: described, more: inos.length > 0 });
      } catch (error) {
        for (const file of files) file.undescribed();
        throw error;
      }
    }
    for (const file of this.#files.values()) if (which(file.ino)) this.#rest(file);
  }

  /** Has managers told what they could not be told before: they may have been there all the time, and nobody may ask anything more of such a file. To be called now and then. */
  retell(): void {
    let count = 0;
    for (const file of this.#owing) {
      if (++count > RETOLD_MAX) return;
      if (file.isOwing) file.undescribed();
    }
  }

  close(reason: DazzleError): void {
    for (const file of this.#files.values()) file.close(reason);
  }

  #used<T>(ino: number, use: (file: FileLocks) => Answer<T>): Answer<T> {
    let file = this.#files.get(ino);
    if (file === undefined) {
      file = new FileLocks(ino, this.#ports, (resting) => this.#rest(resting));
      this.#files.set(ino, file);
    }
    this.#unused.delete(file);
    try {
      return use(file);
    } finally {
      this.#rest(file);
    }
  }

  /** Closing never fails: what can't be told now is told when the manager is back. */
  #dropped(ino: number, drop: (file: FileLocks) => Answer<void>): Answer<void> {
    if (!this.#files.has(ino)) return undefined;
    const dropped = this.#used(ino, drop);
    if (!(dropped instanceof Promise)) return undefined;
    return dropped.catch((error: Error) => this.#logger("warning", "locks are given back later", { ino, reason: error.message }));
  }

  #rest(file: FileLocks): void {
    this.#owing.delete(file);
    if (file.isOwing) this.#owing.add(file);
    if (!file.isUnused) return;
    if (!file.isDelegated) {
      this.#files.delete(file.ino);
      this.#unused.delete(file);
      return;
    }
    this.#unused.add(file);
    if (this.#unused.size <= UNUSED_MAX) return;
    const [oldest] = this.#unused;
    this.#unused.delete(oldest as FileLocks);
    oldest?.retire();
  }
}

function nameOf(owner: bigint): string {
  return owner.toString(16);
}
