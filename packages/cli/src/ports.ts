import type { Logger, Ports } from "@dazzle/core";
import { loadAddon } from "@dazzle/fuse";
import { realClock, realProcesses, realRandom, useNative, webSocketNetwork } from "@dazzle/runtime";

/** This machine's ports. */
export function realPorts(logger: Logger): Ports {
  const addon = loadAddon();
  if (addon !== undefined) useNative(addon);
  return { clock: realClock, random: realRandom, network: webSocketNetwork(), processes: realProcesses, logger };
}
