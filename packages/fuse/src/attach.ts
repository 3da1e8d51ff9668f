import { closeSync, constants, openSync } from "node:fs";
import { addonFailure, loadAddon } from "./addon.ts";
import { MountError } from "./mount-error.ts";
import { runProgram } from "./programs.ts";
import { WRITE_BYTES_MAX } from "./protocol.ts";

const FILE_SYSTEM_TYPE = "fuse.dazzle";
const DIRECTORY_MODE = "40000";

export interface AttachOptions {
  readonly mountpoint: string;
  readonly name: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
}

/** Mounts, and returns the descriptor to serve the mount through. */
export function attach(options: AttachOptions): Promise<number> {
  return process.getuid?.() === 0 ? attachAsRoot(options) : attachAsUser(options);
}

async function attachAsRoot({ mountpoint, name, readOnly, allowOther }: AttachOptions): Promise<number> {
  const fd = openDevice();
  const shared = `rootmode=${DIRECTORY_MODE},user_id=0,group_id=0,default_permissions,max_read=${WRITE_BYTES_MAX}${allowOther ? ",allow_other" : ""}`;
  try {
    const addon = loadAddon();
    if (addon !== undefined) {
      addon.mount(name, mountpoint, FILE_SYSTEM_TYPE, readOnly, `fd=${fd},${shared}`);
    } else {
      const data = `fd=3,${shared},nosuid,nodev${readOnly ? ",ro" : ""}`;
      const { status, errors } = await runProgram("mount", ["-i", "-t", FILE_SYSTEM_TYPE, "-o", data, name, mountpoint], { inherit: fd });
      if (status === undefined) throw new MountError("the program mount is missing; install the package mount (util-linux)");
      if (status !== 0) throw new MountError(`mounting at ${mountpoint} failed: ${errors}`);
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error instanceof MountError ? error : new MountError(`mounting at ${mountpoint} failed: ${rootReason(error)}`);
  }
}

function rootReason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "EPERM") return "the kernel does not permit it (a container needs the capability SYS_ADMIN and the device /dev/fuse)";
  if (code === "EBUSY") return "it is busy; choose another mountpoint";
  if (code === "ENODEV") return "this kernel has no FUSE; load its module: modprobe fuse";
  return message;
}

/** Fails where the kernel can't be spoken to. */
export function checkDevice(): void {
  closeSync(openDevice());
}

function openDevice(): number {
  try {
    return openSync("/dev/fuse", constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw new MountError(deviceReason(error));
  }
}

function deviceReason(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT")
    return "there is no /dev/fuse; load the kernel's module (modprobe fuse), or give the container the device (--device /dev/fuse)";
  if (code === "ENODEV" || code === "ENXIO") return "this kernel has no FUSE behind /dev/fuse; load its module: modprobe fuse";
  return `/dev/fuse can't be opened (${code}); allow it to this user (chmod 666 /dev/fuse), or mount as root`;
}

/** fusermount3 is set-user-id root: it opens the device, mounts, and sends the descriptor over a socket, which only the addon can receive. */
async function attachAsUser({ mountpoint, name, readOnly, allowOther }: AttachOptions): Promise<number> {
  const addon = loadAddon();
  if (addon === undefined) {
    throw new MountError(
      `mounting as an ordinary user needs the addon (${addonFailure()}); build it (npm run build, with a C compiler), or mount as root`,
    );
  }
  // The program opens the device with this user's rights, and what it says of a failure is not to be relied upon.
  checkDevice();
  const source = name.replaceAll(/[,\\]/g, "_");
  const data = [`fsname=${source}`, "subtype=dazzle", "default_permissions", `max_read=${WRITE_BYTES_MAX}`];
  if (allowOther) data.push("allow_other");
  if (readOnly) data.push("ro");
  const [ours, theirs] = addon.socketPair();
  try {
    const program = await runProgram("fusermount3", ["-o", data.join(","), "--", mountpoint], {
      inherit: theirs,
      env: { _FUSE_COMMFD: "3" },
    });
    if (program.status === undefined)
      throw new MountError("the program fusermount3 is missing; install the package fuse3, or mount as root");
    if (program.status !== 0) throw new MountError(`fusermount3 could not mount at ${mountpoint}: ${program.errors}`);
    const fd = addon.receiveDescriptor(ours);
    if (fd < 0) throw new MountError(`fusermount3 mounted at ${mountpoint} but sent no descriptor; update the package fuse3`);
    return fd;
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}
