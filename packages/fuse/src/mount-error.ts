/** A mount that could not be made or ended. The message names the thing and the way out, in one line. */
export class MountError extends Error {
  override name = "MountError";
}
