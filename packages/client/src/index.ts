export { ClientFileSystem } from "./client-file-system.ts";
export { MountClient, type MountClientOptions } from "./mount-client.ts";
