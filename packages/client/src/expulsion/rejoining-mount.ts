import {
  type Clock,
  type DazzleError,
  type Deferred,
  type Disk,
  deferred,
  DazzleError as Failure,
  type FileSystem,
  findLog,
  isDazzleError,
  type Logger,
  sleep,
  withDeadline,
} from "@dazzle/core";
import { MountClient, type MountClientOptions } from "../mount-client.ts";
import { KernelPages } from "./kernel-pages.ts";
import { KernelState } from "./kernel-state.ts";
import { STOP_BEFORE_MS } from "./lease-guard.ts";
import { type Incarnations, RejoiningFileSystem } from "./rejoining-file-system.ts";
import { type Spooled, writeSpool } from "./spool.ts";

/** The kernel is given this long to drop its pages before the lease ends; what is left is for reads that must fail first. */
const DROP_DEADLINE_MS = STOP_BEFORE_MS - 700;
/** How long it is waited for the map to say how much of an expelled log survives. */
const END_DEADLINE_MS = 15_000;
const RETRY_MS = 200;
const RETRY_MAX_MS = 5_000;

export interface RejoiningMountOptions extends Omit<MountClientOptions, "kernel" | "events"> {
  /** Where what could not be saved is kept; opened when it is needed. */
  readonly spool: { readonly path: string; readonly open: () => Promise<Disk> };
}

/** A mount that goes on after it was expelled: behind the same filesystem one incarnation follows the other, each with a log of its own and
 * empty caches. */
export class RejoiningMount implements Incarnations {
  readonly fileSystem: FileSystem;
  readonly #options: RejoiningMountOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #kernel = new KernelState();
  readonly #pages: KernelPages;
  readonly #operations: RejoiningFileSystem;
  #present: MountClient | null = null;
  #log = 0;
  #back: Deferred<void> = deferred();
  #awaited = "the cluster";
  #toldMs = Number.NEGATIVE_INFINITY;
  #rejoining: Promise<void> = Promise.resolve();
  #closing = false;
  /** How often it was expelled. */
  expulsions = 0;

  private constructor(options: RejoiningMountOptions) {
    const { clock, logger } = options.ports;
    this.#options = options;
    this.#clock = clock;
    this.#logger = logger;
    this.#pages = new KernelPages({ clock, logger, isOpen: (ino) => this.#kernel.handles.isOpen(ino) });
    this.#operations = new RejoiningFileSystem({
      incarnations: this,
      kernel: this.#kernel,
      pages: this.#pages,
      onStart: (notifier) => {
        this.#pages.notifier = notifier;
        this.#present?.fileSystem.start(this.#pages);
      },
    });
    this.fileSystem = this.#operations;
  }

  static async start(options: RejoiningMountOptions): Promise<RejoiningMount> {
    const mount = new RejoiningMount(options);
    mount.#serve(await mount.#newClient(options.map));
    return mount;
  }

  #newClient(map: MountClientOptions["map"]): Promise<MountClient> {
    const { spool: _, ...options } = this.#options;
    const events = {
      leaseStopped: () => void this.#dropPages(),
      expelled: (error: DazzleError) => this.#expelled(error),
    };
    return MountClient.start({ ...options, map, kernel: this.#kernel, events });
  }

  #serve(client: MountClient): void {
    if (this.#pages.notifier !== null) client.fileSystem.start(this.#pages);
    this.#present = client;
    this.#log = client.log;
    this.#back.resolve();
    // Expelled already, between its start and now.
    if (client.expelled !== null) this.#expelled(client.expelled);
  }

  get present(): MountClient | null {
    return this.#present;
  }

  /** The incarnation that serves. Throws where there is none. */
  get client(): MountClient {
    if (this.#present === null) throw this.#late();
    return this.#present;
  }

  /** The log of the incarnation that serves, or served last. */
  get log(): number {
    return this.#log;
  }

  get deadlineMs(): number {
    return this.#clock.nowMs() + this.#options.limits.writeDeadlineMs;
  }

  async whenPresent(endMs: number): Promise<MountClient> {
    while (this.#present === null || this.#clock.nowMs() >= endMs) {
      const leftMs = endMs - this.#clock.nowMs();
      if (leftMs <= 0 || this.#closing) throw this.#late();
      await withDeadline(this.#clock, leftMs, "rejoining", this.#back.promise).catch(() => {});
    }
    return this.#present;
  }

  /** A line for all that waited at the same time. */
  #late(): Failure {
    const { writeDeadlineMs } = this.#options.limits;
    if (this.#clock.nowMs() - this.#toldMs > writeDeadlineMs)
      this.#logger("error", "requests fail: the mount could not rejoin in time", { deadlineMs: writeDeadlineMs, awaited: this.#awaited });
    this.#toldMs = this.#clock.nowMs();
    return new Failure("timedOut", `this mount was expelled and waits for ${this.#awaited}`);
  }

  async expelledOrBack(client: MountClient): Promise<void> {
    if (client !== this.#present || client.expelled !== null) return;
    await client.map.refresh().catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
    });
    if (client.expelled === null) await sleep(this.#clock, RETRY_MS);
  }

  #expelled(error: DazzleError): void {
    const client = this.#present;
    // One that is only starting is told by its start.
    if (client === null || client.expelled === null) return;
    this.#present = null;
    this.#back = deferred();
    this.#awaited = "the end of its log";
    this.expulsions++;
    this.#operations.ended();
    this.#logger("error", "this mount was expelled: it rejoins by itself", { log: client.log, reason: error.message });
    this.#rejoining = this.#rejoin(client).catch((failure: Error) => {
      this.#logger("error", "this mount can't rejoin: unmount it and mount again", { reason: failure.stack ?? failure.message });
    });
  }

  async #rejoin(expelled: MountClient): Promise<void> {
    await this.#dropPages();
    await this.#save(expelled, await this.#survives(expelled));
    const client = await this.#startNext(expelled);
    expelled.abandon();
    if (client === null) return;
    // Nothing was answered since, but what the kernel could not be made to drop then it may have.
    await this.#dropPages();
    if (this.#closing) await client.close();
    else {
      this.#serve(client);
      this.#logger("info", "this mount has rejoined", { log: client.log, before: expelled.log });
    }
  }

  async #dropPages(): Promise<void> {
    await this.#pages.dropAll(DROP_DEADLINE_MS);
  }

  /** Up to which sequence the log survives, as far as the map tells. */
  async #survives(expelled: MountClient): Promise<number> {
    const { map } = expelled;
    for (const endMs = this.#clock.nowMs() + END_DEADLINE_MS; this.#clock.nowMs() < endMs && !this.#closing; ) {
      await map.refresh().catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
      });
      const row = findLog(map.current, expelled.log);
      if (row === undefined) break;
      if (row.end !== null) return Math.max(row.end, expelled.stableSequence);
      await sleep(this.#clock, RETRY_MS);
    }
    return expelled.stableSequence;
  }

  /** Has what is lost fail, and keeps it in the spool directory. */
  async #save(client: MountClient, saved: number): Promise<void> {
    const unsaved = client.unsaved(saved);
    let handles = 0;
    for (const [ino, isDirectory] of unsaved.changed) handles += this.#kernel.handles.lose(ino, isDirectory);
    for (const ino of client.fileSystem.locked) handles += this.#kernel.handles.lose(ino, true);
    if (unsaved.changed.size === 0 && unsaved.made.length === 0 && unsaved.removed.length === 0) return;
    const { path, open } = this.#options.spool;
    const directory = `${path}/${client.log}`;
    try {
      const title = `What mount ${client.log} at ${this.#options.label} had done and could not save:`;
      const kept: Spooled = await writeSpool(await open(), client.log, title, unsaved);
      this.#logger("error", "what could not be saved is kept in the spool directory", { directory, ...kept, handles });
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      this.#logger("error", "what could not be saved is lost: it can't be kept in the spool directory either", {
        directory,
        files: unsaved.files.length,
        handles,
        reason: error.message,
      });
    }
  }

  /** The next incarnation, tried for until the mount is closed. */
  async #startNext(expelled: MountClient): Promise<MountClient | null> {
    for (let delayMs = RETRY_MS; !this.#closing; delayMs = Math.min(2 * delayMs, RETRY_MAX_MS)) {
      try {
        return await this.#newClient(expelled.map.current);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        this.#awaited = error.message;
        this.#logger("warning", "this mount can't rejoin yet", { reason: error.message });
        await sleep(this.#clock, delayMs);
      }
    }
    return null;
  }

  /** Everything done before is durable when it resolves. */
  async sync(): Promise<number> {
    return (await this.whenPresent(this.deadlineMs)).sync();
  }

  counters(): Record<string, number> {
    return { expulsions: this.expulsions, ...this.#present?.counters() };
  }

  /** A clean end: see `MountClient.close`. What an end that was not clean may lose is kept in the spool directory. Answers whether it was clean. */
  async close(): Promise<boolean> {
    if (this.#closing) return false;
    this.#closing = true;
    this.#back.resolve();
    const client = this.#present;
    if (client === null) {
      await this.#rejoining;
      return false;
    }
    const clean = await client.close();
    if (!clean) await this.#save(client, client.stableSequence);
    return clean;
  }
}
