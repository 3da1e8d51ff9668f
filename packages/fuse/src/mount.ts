import { writeFile } from "node:fs/promises";
import { assert, type FileSystem } from "@dazzle/core";
import { addonFailure, loadAddon } from "./addon.ts";
import { AddonEngine } from "./addon-engine.ts";
import { attach, checkDevice } from "./attach.ts";
import { abortConnection, detach, detachIdle } from "./connection.ts";
import type { Counters } from "./counters.ts";
import { Dispatcher } from "./dispatcher.ts";
import type { Engine, EngineKind } from "./engine.ts";
import { errnoName } from "./errno.ts";
import { MountError } from "./mount-error.ts";
import { findMount } from "./mount-table.ts";
import { checkMountpoint, prepareMountpoint } from "./mountpoint.ts";
import type { Negotiated } from "./negotiation.ts";
import { NodeEngine } from "./node-engine.ts";
import { Notifier } from "./notifier.ts";
import { ReplyBuffer } from "./reply.ts";

const IN_FLIGHT_MAX = 1024;
/** The kernel offers 128 KiB; it keeps a larger value only when told through this file. */
const READ_AHEAD_KIB = 1024;
/** How long an unmounted filesystem may go on being used through copies of the mount. */
const COPIES_WAIT_MS = 2000;

export interface MountOptions {
  readonly mountpoint: string;
  /** What the mount table shows as the source. */
  readonly name?: string;
  readonly engine?: EngineKind | "auto";
  readonly readOnly?: boolean;
  /** Other users may enter. The default for root; for others only where /etc/fuse.conf has user_allow_other. */
  readonly allowOther?: boolean;
  readonly log?: (line: string) => void;
  /** Requests waiting for the filesystem at once; the kernel keeps the others. */
  readonly inFlightMax?: number;
}

export interface Mount {
  readonly engine: EngineKind;
  readonly mountpoint: string;
  /** The number below /sys/fs/fuse/connections. */
  readonly connection: number;
  readonly counters: Counters;
  /** Also handed to the filesystem at its start. */
  readonly notifier: Notifier;
  /** Resolves when the mount has ended, whoever ended it, and its descriptor is closed. Never rejects. */
  readonly closed: Promise<void>;
  /** Unmounts. Where files are in use, the mount leaves the tree and its users get errors. */
  unmount(): Promise<void>;
}

/** Mounts the filesystem and serves it from this process until it is unmounted. */
export async function mountFileSystem(fileSystem: FileSystem, options: MountOptions): Promise<Mount> {
  requireLinux();
  const inFlightMax = options.inFlightMax ?? IN_FLIGHT_MAX;
  assert(inFlightMax >= 1, "at least one request is in flight");
  const kind = chooseEngine(options.engine ?? "auto");
  const mountpoint = await prepareMountpoint(options.mountpoint);
  const allowOther = options.allowOther ?? process.getuid?.() === 0;
  const fd = await attach({ mountpoint, name: options.name ?? "dazzle", readOnly: options.readOnly ?? false, allowOther });
  const session = new Session(fileSystem, kind, fd, mountpoint, inFlightMax, options.log ?? logToStandardError);
  await session.start();
  return session;
}

/** Fails, with the line that `mountFileSystem` would fail with, where nothing could be mounted there. Changes nothing. */
export async function checkMount(options: Pick<MountOptions, "mountpoint" | "engine">): Promise<void> {
  requireLinux();
  chooseEngine(options.engine ?? "auto");
  await checkMountpoint(options.mountpoint);
  checkDevice();
}

function requireLinux(): void {
  if (process.platform !== "linux") throw new MountError(`mounting works on Linux only, this is ${process.platform}`);
}

function chooseEngine(wanted: EngineKind | "auto"): EngineKind {
  if (wanted === "node") return "node";
  if (loadAddon() !== undefined) return "addon";
  if (wanted === "auto") return "node";
  throw new MountError(
    `the addon is not there (${addonFailure()}); build it (npm run build, with a C compiler), or choose the engine "node"`,
  );
}

class Session implements Mount {
  readonly engine: EngineKind;
  readonly mountpoint: string;
  readonly notifier: Notifier;
  readonly counters: Counters;
  readonly closed: Promise<void>;
  #connection = 0;
  readonly #fileSystem: FileSystem;
  readonly #engine: Engine;
  readonly #dispatcher: Dispatcher;
  readonly #log: (line: string) => void;
  readonly #negotiated: Promise<Negotiated | string>;
  #unmounting: Promise<void> | undefined;

  constructor(fileSystem: FileSystem, kind: EngineKind, fd: number, mountpoint: string, inFlightMax: number, log: (line: string) => void) {
    const reply = new ReplyBuffer();
    const addon = loadAddon();
    this.#engine = kind === "addon" && addon !== undefined ? new AddonEngine(addon, fd, reply.bytes) : new NodeEngine(fd, reply.bytes);
    this.engine = this.#engine.kind;
    this.mountpoint = mountpoint;
    this.#fileSystem = fileSystem;
    this.#log = log;
    this.notifier = new Notifier(this.#engine);
    let negotiated: (result: Negotiated | string) => void = () => {};
    let closed: () => void = () => {};
    this.#negotiated = new Promise((resolve) => {
      negotiated = resolve;
    });
    this.closed = new Promise((resolve) => {
      closed = resolve;
    });
    this.#dispatcher = new Dispatcher(fileSystem, this.#engine, reply, {
      inFlightMax,
      log,
      negotiated,
      ended: (errno) => {
        if (errno !== undefined) log(`fuse: reading /dev/fuse failed: ${errnoName(errno)}; the mount at ${mountpoint} ends`);
        negotiated("the mount ended before it began");
        void this.#close().then(closed);
      },
    });
    this.counters = this.#dispatcher.counters;
  }

  get connection(): number {
    return this.#connection;
  }

  async start(): Promise<void> {
    this.#connection = findMount(this.mountpoint)?.connection ?? 0;
    try {
      this.#fileSystem.start(this.notifier);
      this.#engine.start(this.#dispatcher);
    } catch (error) {
      await detach(this.mountpoint);
      this.#dispatcher.ended(undefined);
      throw error;
    }
    const result = await this.#negotiated;
    if (typeof result === "string") {
      await this.unmount();
      throw new MountError(`mounting at ${this.mountpoint} failed: ${result}`);
    }
    this.notifier.kernelMinor = result.minor;
    // Root's alone, and only a matter of speed.
    await writeFile(`/sys/class/bdi/0:${this.#connection}/read_ahead_kb`, String(READ_AHEAD_KIB)).catch(() => {});
  }

  unmount(): Promise<void> {
    this.#unmounting ??= this.#unmount();
    return this.#unmounting;
  }

  async #unmount(): Promise<void> {
    // Whatever else may be mounted there by now is left alone.
    if (findMount(this.mountpoint)?.connection === this.#connection) {
      const busy = await detachIdle(this.mountpoint);
      if (busy !== "") {
        this.#log(`fuse: ${busy}; detaching it and failing what still uses it`);
        const failure = await detach(this.mountpoint);
        if (failure !== "" && findMount(this.mountpoint)?.connection === this.#connection)
          throw new MountError(`${this.mountpoint} can't be unmounted: ${failure}`);
        await this.#abort();
      }
    }
    // Copies in other mount namespaces keep the connection alive, however long those live.
    const timer = setTimeout(() => void this.#abort(), COPIES_WAIT_MS);
    await this.closed;
    clearTimeout(timer);
  }

  async #abort(): Promise<void> {
    await abortConnection(this.#connection);
    this.#dispatcher.ended(undefined);
  }

  /** Closing the descriptor also ends a connection that could not be aborted. */
  async #close(): Promise<void> {
    this.#engine.pause();
    await this.notifier.drain();
    this.#engine.close();
  }
}

function logToStandardError(line: string): void {
  process.stderr.write(`${line}\n`);
}
