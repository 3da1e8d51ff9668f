import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import { DazzleError } from "@dazzle/core";

/** A mount's device in the addon; see `native/device.c`. */
export interface NativeDevice {
  send(length: number): number;
  sendPieces(length: number, pieces: readonly Uint8Array[]): number;
  addChunk(buffer: Uint8Array): number;
  notify(id: number, message: Uint8Array): void;
  resume(): void;
  pause(): void;
  close(): void;
}

export interface NativeAddon {
  openDevice(
    fd: number,
    control: Uint32Array,
    out: Uint8Array,
    onBatch: (countOrNegativeErrno: number) => void,
    onNotified: (id: number, errno: number) => void,
  ): NativeDevice;
  mount(source: string, target: string, type: string, readOnly: boolean, data: string): void;
  socketPair(): [number, number];
  receiveDescriptor(socket: number): number;
  punchHole(fd: number, offset: number, length: number): boolean;
  preadNowait(fd: number, buffer: Uint8Array, bufferOffset: number, length: number, position: number): number;
  shutdownFilesystem(path: string): void;
  clockBoottimeMs(): number;
}

/** From `src` and from `dist` alike. */
const ADDON_PATH = fileURLToPath(new URL("../build/dazzle_fuse.node", import.meta.url));

let loaded: NativeAddon | undefined;
let failure: string | undefined;

/** Undefined where it was not built; `addonFailure` says why. */
export function loadAddon(): NativeAddon | undefined {
  if (loaded !== undefined || failure !== undefined) return loaded;
  const module: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(module, ADDON_PATH, constants.dlopen.RTLD_NOW);
    loaded = module.exports as NativeAddon;
  } catch (error) {
    failure = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
  }
  return loaded;
}

export function addonFailure(): string {
  return failure ?? "not loaded yet";
}

/** Gives the blocks of the range back to the disk; it reads as zeros. False where the filesystem or this build cannot. */
export function punchHole(fd: number, offset: number, length: number): boolean {
  return loadAddon()?.punchHole(fd, offset, length) ?? false;
}

/** Reads what is in the page cache: the bytes read (perhaps fewer than asked, 0 at the end), or -1 where it would have to wait for the disk
 * or cannot tell; then read it the ordinary way. */
export function preadNowait(fd: number, buffer: Uint8Array, bufferOffset: number, length: number, position: number): number {
  return loadAddon()?.preadNowait(fd, buffer, bufferOffset, length, position) ?? -1;
}

/** For power-cut tests: the ext4 or XFS filesystem mounted at `path` loses what was not synced and fails from now on. Refused (EPERM) where
 * `path` is no mountpoint, and for the filesystem of `/`. */
export function shutdownFilesystem(path: string): void {
  const addon = loadAddon();
  if (addon === undefined) throw new DazzleError("operationNotSupported", `shutting down a filesystem needs the addon: ${addonFailure()}`);
  addon.shutdownFilesystem(path);
}

/** Milliseconds since the machine started, those it was suspended included. */
export function clockBoottimeMs(): number {
  const addon = loadAddon();
  if (addon !== undefined) return addon.clockBoottimeMs();
  return Number.parseFloat(readFileSync("/proc/uptime", "latin1")) * 1000;
}
