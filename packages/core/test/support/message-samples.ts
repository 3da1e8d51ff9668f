import { type ClusterMap, MAP_FORMAT } from "@dazzle/core";
import type { Seeded } from "./seeded.ts";

/** A value that msgpack carries, of every type that fields have. */
export function randomField(random: Seeded, depth = 2): unknown {
  switch (random.below(depth > 0 ? 8 : 6)) {
    case 0:
      return random.safe();
    case 1:
      return -1 - random.below(2 ** 40);
    case 2:
      return random.chance(2);
    case 3:
      return random.name(40);
    case 4:
      return null;
    case 5:
      return "";
    case 6:
      return Array.from({ length: random.below(5) }, () => randomField(random, depth - 1));
    default:
      return Object.fromEntries(Array.from({ length: random.below(5) }, (_, index) => [`key${index}`, randomField(random, depth - 1)]));
  }
}

export function sampleMap(version: number, clusterId = "00112233445566778899aabbccddeeff"): ClusterMap {
  return {
    format: MAP_FORMAT,
    clusterId,
    version,
    nextLog: 1,
    nextMember: 1,
    members: [],
    groups: [],
    slots: [],
    logs: [],
    keepers: [],
    formerKeepers: [],
  };
}
