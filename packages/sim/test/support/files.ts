import { type Caller, type FileSystem, joined } from "@dazzle/core";

export const ROOT = 1;
export const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
export const O_RDWR = 2;

/** A new file of the root directory, on disk when it resolves. */
export async function writeFile(fileSystem: FileSystem, name: string, bytes: string | Uint8Array): Promise<void> {
  const { entry, file } = await fileSystem.create(CALLER, ROOT, name, 0o644, O_RDWR);
  const { ino } = entry.attributes;
  await fileSystem.write(CALLER, ino, file.handle, 0, Buffer.from(bytes), { open: O_RDWR, killPrivileges: false });
  await fileSystem.fsync(CALLER, ino, file.handle, false);
  await fileSystem.release(ino, file.handle, undefined);
}

/** All of a file of the root directory. */
export async function readFile(fileSystem: FileSystem, name: string): Promise<Buffer> {
  const { attributes } = await fileSystem.lookup(CALLER, ROOT, name);
  const { handle } = await fileSystem.open(CALLER, attributes.ino, 0);
  const bytes = Buffer.from(joined(await fileSystem.read(CALLER, attributes.ino, handle, 0, attributes.size)));
  await fileSystem.release(attributes.ino, handle, undefined);
  return bytes;
}
