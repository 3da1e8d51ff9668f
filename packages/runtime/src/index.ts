export * from "./address.ts";
export * from "./clock.ts";
export * from "./disk.ts";
export * from "./logger.ts";
export * from "./native.ts";
export * from "./processes.ts";
export * from "./random.ts";
export * from "./web-socket-network.ts";
