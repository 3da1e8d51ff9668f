export { ClientFileSystem } from "./client-file-system.ts";
export { RejoiningMount, type RejoiningMountOptions } from "./expulsion/rejoining-mount.ts";
export { MountClient, type MountClientOptions } from "./mount-client.ts";
