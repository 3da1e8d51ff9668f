import { type Clock, decodeInode, joined, mergedInode, packInode, slotOf } from "@dazzle/core";
import type { NamedEntry } from "../imap/imap.ts";
import type { Holders } from "../mounts/holders.ts";
import type { ShardHost } from "../shard/shard-host.ts";
import type { Grants } from "./grants.ts";
import type { Split, TokenTable } from "./token-table.ts";

/** Names looked through at the second look into a directory; after that, so many times more than the last one brought. */
const AHEAD_FIRST = 8;
const AHEAD_GROWTH = 4;
const AHEAD_MAX = 1_024;
/** Looks with more time between them do not belong together. */
const WALK_MS = 10_000;
/** Who looks at so few files in turn watches them, and wants no others. */
const WATCHED_MAX = 16;
/** Walks that are remembered, of all mounts. */
const WALKS_MAX = 1_024;
const DIRECTORY = 4;

/** A mount that looks at one file of a directory after the other. */
interface Walk {
  readonly directory: number;
  /** The last name that was looked through. */
  after: string;
  ahead: number;
  lastMs: number;
  /** Looked at of late. */
  looked: readonly number[];
}

/** What a holder said. */
export interface Peeked {
  /** The index node, where the holder is changing it, or several are. */
  readonly inode: readonly Uint8Array[] | undefined;
  /** What the holder shares now, of what was looked at and what is likely to be looked at next. */
  readonly shared: readonly number[];
}

const NOTHING: Peeked = { inode: undefined, shared: [] };

/** Looks at the attributes of what another mount holds (docs/manager.md). One that is changing the object tells them, and keeps its token; else it shares the object.
 * Where a mount looks at one file of a directory after the other, others of the directory are asked for in the same message. */
export class Peeks {
  readonly #host: ShardHost;
  readonly #tokens: TokenTable;
  readonly #grants: Grants;
  readonly #holders: Holders;
  readonly #clock: Clock;
  /** By mount and directory; the least recently used first. */
  readonly #walks = new Map<string, Walk>();

  constructor(options: { host: ShardHost; tokens: TokenTable; grants: Grants; holders: Holders; clock: Clock }) {
    this.#host = options.host;
    this.#tokens = options.tokens;
    this.#grants = options.grants;
    this.#holders = options.holders;
    this.#clock = options.clock;
  }

  async peek(mount: number, ino: number): Promise<Peeked> {
    if (this.#tokens.split(ino) !== undefined) {
      await this.#grants.whenStill(ino);
      const split = this.#tokens.split(ino);
      if (split !== undefined) return { inode: await this.#merged(ino, split), shared: [] };
    }
    if (this.#holder(mount, ino) === undefined) return NOTHING;
    const walk = await this.#walk(mount, ino);
    const goesOn = walk !== undefined && !walk.looked.includes(ino);
    const ahead = goesOn ? await this.#ahead(walk, ino) : [];
    // It may have got another holder, or none, meanwhile.
    const holder = this.#holder(mount, ino);
    if (holder === undefined) return NOTHING;
    const inos = [ino, ...ahead.filter((other) => this.#holder(mount, other) === holder)];
    let inode: readonly Uint8Array[] | undefined;
    const shared = await this.#grants.share(holder, inos, async (grant) => {
      const answer = await this.#holders.peek(holder, inos, grant);
      inode = answer?.inode;
      return answer?.shared ?? [];
    });
    if (goesOn && shared.length > 0) this.#lookedAt(walk, ino, shared.length);
    return { inode, shared };
  }

  /** The index node with what the mounts write that have parts of the file, whoever looks. Undefined where not all of them tell, or one has cut the file
   * meanwhile: what each tells is only true as long as all write. */
  async #merged(ino: number, split: Split): Promise<readonly Uint8Array[] | undefined> {
    const answers = await Promise.all([...split.keys()].map((mount) => this.#holders.peek(mount, [ino], this.#grants.count)));
    // What they have not changed since, they had told before: it is here by now.
    const inode = await this.#host.shardOf(ino).imap.inode(ino);
    if (inode === undefined || answers.includes(undefined) || this.#tokens.split(ino) !== split) return undefined;
    const written = answers.flatMap((answer) => (answer?.inode === undefined ? [] : [decodeInode(joined(answer.inode))]));
    return [packInode(written.reduce(mergedInode, decodeInode(inode)))];
  }

  /** Another mount that holds it alone, and may be asked. */
  #holder(mount: number, ino: number): number | undefined {
    const holder = this.#grants.isMoving(ino) ? undefined : this.#tokens.holder(ino);
    return holder === mount ? undefined : holder;
  }

  /** Undefined where nothing is known of the directory here. */
  async #walk(mount: number, ino: number): Promise<Walk | undefined> {
    const inode = await this.#host.shardOf(ino).imap.inode(ino);
    if (inode === undefined) return undefined;
    const { parent } = decodeInode(inode);
    if (!this.#host.has(slotOf(parent))) return undefined;
    const key = `${mount}.${parent}`;
    const nowMs = this.#clock.nowMs();
    const known = this.#walks.get(key);
    const isRecent = known !== undefined && nowMs - known.lastMs <= WALK_MS;
    const walk = isRecent ? known : { directory: parent, after: "", ahead: 0, lastMs: nowMs, looked: [] };
    this.#remember(key, walk);
    return walk;
  }

  #remember(key: string, walk: Walk): void {
    this.#walks.delete(key);
    this.#walks.set(key, walk);
    if (this.#walks.size > WALKS_MAX) for (const oldest of this.#walks.keys()) return void this.#walks.delete(oldest);
  }

  #lookedAt(walk: Walk, ino: number, shared: number): void {
    walk.lastMs = this.#clock.nowMs();
    walk.looked = [...walk.looked.slice(1 - WATCHED_MAX), ino];
    walk.ahead = Math.min(AHEAD_MAX, Math.max(AHEAD_FIRST, AHEAD_GROWTH * shared));
  }

  /** The next files of the directory that are in the same slot; from the start again behind its end. */
  async #ahead(walk: Walk, ino: number): Promise<readonly number[]> {
    if (walk.ahead === 0) return [];
    const { directory, after, ahead } = walk;
    const { entries, more } = await this.#host.shardOf(directory).imap.entries(directory, after, ahead);
    walk.after = more ? (entries.at(-1)?.name ?? "") : "";
    const isNext = ({ child, type }: NamedEntry) => child !== ino && type !== DIRECTORY && slotOf(child) === slotOf(ino);
    return entries.filter(isNext).map(({ child }) => child);
  }
}
