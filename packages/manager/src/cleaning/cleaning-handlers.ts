import {
  blocksOf,
  DazzleError,
  type Handlers,
  isDazzleError,
  joined,
  MOVES_MAX,
  type Piece,
  packPieces,
  unpackMoves,
  unpackPieces,
} from "@dazzle/core";
import type { Manager, OpenManager } from "../manager.ts";
import type { Shard } from "../shard/shard.ts";
import { sliceAt } from "./moved-extents.ts";

/** Segments in one answer. */
const SEGMENTS_MAX = 10_000;

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
      const { host, liveness, cleaners } = loaded();
      const moves = unpacked(tail, unpackMoves);
      const check = () => {
        cleaners.check(log);
        if (sequence <= liveness.trimmedTo(log)) throw new DazzleError("invalid", `segment ${log}/${sequence} is trimmed`);
      };
      const bytes = await host.relocate({ log, sequence, group, groupVersion }, moves, check);
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

async function stillThere(shard: Shard, piece: Piece, at: { readonly log: number; readonly sequence: number }): Promise<Piece[]> {
  const { ino, block, length } = piece;
  if (shard.condemned.has(ino)) return [];
  const extents = await shard.imap.extents(ino, block, block + blocksOf(length));
  return extents.flatMap((extent) => {
    const part = sliceAt(extent, piece, at);
    return part === undefined ? [] : [{ ino, block: part.block, offset: part.offset, length: part.length }];
  });
}
