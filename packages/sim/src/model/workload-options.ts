import type { FileSystem } from "@dazzle/core";
import type { SeededRandom } from "../random.ts";
import type { History } from "./history.ts";

export interface WorkloadOptions {
  readonly fileSystem: FileSystem;
  readonly history: History;
  /** Whose operations they are in the history. */
  readonly mount: string;
  readonly random: SeededRandom;
  /** Writes and sizes stay around this; 64 KiB where nothing is said. */
  readonly fileBytes?: number;
  /** Now and then something is written or zeroed as far as this, over a hole; nothing is where nothing is said. */
  readonly farBytes?: number;
  /** Whether a change may be refused because a disk is full; never where nothing is said. */
  readonly mayBeFull?: () => boolean;
  /** How often each action is drawn, over `DEFAULT_WEIGHTS`. */
  readonly weights?: Partial<Record<Action, number>>;
}

export const DEFAULT_WEIGHTS = {
  create: 14,
  makeDirectory: 5,
  symlink: 3,
  link: 3,
  unlink: 7,
  removeDirectory: 3,
  rename: 10,
  write: 28,
  resize: 5,
  zero: 3,
  setMode: 2,
  setOwner: 1,
  setTime: 2,
  setAttribute: 2,
  removeAttribute: 1,
  open: 4,
  close: 4,
  read: 10,
  list: 4,
  stat: 6,
  miss: 3,
  readLink: 2,
  forget: 5,
  sync: 3,
} as const;

export type Action = keyof typeof DEFAULT_WEIGHTS;
