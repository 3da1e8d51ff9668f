import { randomBytes, randomInt } from "node:crypto";
import type { Random } from "@dazzle/core";

export const realRandom: Random = {
  bytes: (length) => randomBytes(length),
  below: (bound) => randomInt(bound),
};
