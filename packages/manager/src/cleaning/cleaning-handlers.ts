import {
  blocksOf,
  DazzleError,
  type Handlers,
  isDazzleError,
  joined,
  MOVES_MAX,
  type Move,
  type Piece,
  packPieces,
  someAtOnce,
  unpackMoves,
  unpackPieces,
} from "@dazzle/core";
import type { Manager, OpenManager } from "../manager.ts";
import type { Shard } from "../shard/shard.ts";
import { sliceAt } from "./moved-extents.ts";

/** Segments in one answer. */
const SEGMENTS_MAX = 10_000;

/** Moves between two transactions, and what is read for them at once. */
const MOVES_A_TURN = 128;
const READS_AT_ONCE = 16;

/** What a manager answers to cleaners, of the slots that are read here: nothing of it needs the manager's lease. */
export function cleaningHandlers(manager: Manager): Handlers {
  const loaded = (): OpenManager => {
    manager.check();
    return manager.parts;
  };

  return {
    cleanerTrimmed: ({ log, trimmedTo }) => {
      const { liveness, cleaners } = loaded();
      if (cleaners.isLive(log)) liveness.trimmed(log, trimmedTo);
      return { reply: {} };
    },

    liveBytes: async ({ log, after, limit }) => ({
      reply: await loaded().liveness.here.bytes(log, after, Math.max(1, Math.min(limit, SEGMENTS_MAX))),
    }),

    stillAt: async ({ log, sequence }, { tail }) => {
      const { host } = loaded();
      const there: Piece[] = [];
      for (const piece of unpacked(tail, unpackPieces))
        there.push(...(await stillThere(host.shardOf(piece.ino), piece, { log, sequence })));
      return { reply: {}, tail: [packPieces(there)] };
    },

    relocate: async ({ log, sequence, group, groupVersion, trimmedTo }, { tail }) => {
      const { host, table, liveness, cleaners } = loaded();
      const moves = unpacked(tail, unpackMoves);
      const check = (some: readonly Move[]) => {
        cleaners.check(log);
        if (sequence <= liveness.trimmedTo(log)) throw new DazzleError("invalid", `segment ${log}/${sequence} is trimmed`);
        for (const { ino } of some) {
          const { slot } = host.shardOf(ino);
          // Until then that manager tells readers where the blocks were, and those segments must be there.
          if (!table.isFree(slot)) throw new DazzleError("notReady", `the lease of the manager that had slot ${slot} runs`);
        }
      };
      check(moves);
      let bytes = 0;
      for (let at = 0; at < moves.length; at += MOVES_A_TURN) {
        const some = moves.slice(at, at + MOVES_A_TURN);
        await someAtOnce(READS_AT_ONCE, some, (move) => read(host.shardOf(move.ino), move, { log, sequence }));
        bytes += await host.relocate({ log, sequence, group, groupVersion }, some, () => check(some));
      }
      // Also where nothing moved: what is not there any more must stay so.
      await manager.journal.settle();
      if (cleaners.isLive(log)) liveness.trimmed(log, trimmedTo);
      return { reply: { bytes } };
    },
  };
}

function unpacked<Row extends Piece>(tail: readonly Uint8Array[], unpack: (bytes: Uint8Array) => Row[]): Row[] {
  try {
    const rows = unpack(joined(tail));
    if (rows.length > MOVES_MAX) throw new DazzleError("badMessage", `${rows.length} pieces of files, more than ${MOVES_MAX}`);
    for (const { ino, length } of rows)
      if (ino < 1 || length < 1) throw new DazzleError("badMessage", `${length} bytes of the file ${ino}`);
    return rows;
  } catch (error) {
    throw isDazzleError(error, "corrupt") ? new DazzleError("badMessage", error.message) : error;
  }
}

/** Brings what a move looks at from the sorted runs into the cache, so that no transaction waits for the reading. */
async function read({ imap }: Shard, move: Move, to: { readonly log: number; readonly sequence: number }): Promise<void> {
  await imap.extents(move.ino, move.block, move.block + blocksOf(move.length));
  await imap.live(move.fromLog, move.fromSequence);
  await imap.live(to.log, to.sequence);
}

async function stillThere(shard: Shard, piece: Piece, at: { readonly log: number; readonly sequence: number }): Promise<Piece[]> {
  const { ino, block, length } = piece;
  if (shard.condemned.has(ino)) return [];
  const extents = await shard.imap.extents(ino, block, block + blocksOf(length));
  return extents.flatMap((extent) => {
    const part = sliceAt(extent, piece, at);
    return part === undefined ? [] : [{ ino, block: part.block, offset: part.offset, length: part.length }];
  });
}
