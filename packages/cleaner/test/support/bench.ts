import {
  type DazzleError,
  type Handlers,
  joined,
  type MemberId,
  type Move,
  Peers,
  packPieces,
  unpackMoves,
  unpackPieces,
} from "@dazzle/core";
import { LogReader } from "@dazzle/log";
import { Cluster, GROUP } from "../../../log/test/support/cluster.ts";
import { CleanerLog } from "../../src/cleaner-log.ts";
import type { CleanerOptions } from "../../src/options.ts";

export const SELF = 9 as MemberId;

interface Told extends Move {
  readonly sequence: number;
}

/** A group of three servers, and one member that manages every slot and cleans. */
export class Bench {
  readonly cluster: Cluster;
  readonly options: CleanerOptions;
  readonly reader: LogReader;
  readonly moves: Told[] = [];
  readonly trimmedTo: number[] = [];
  refusal: DazzleError | null = null;
  beforeStillAt = async () => {};

  private constructor(cluster: Cluster) {
    this.cluster = cluster;
    const { instance, options } = cluster.client("cleaner");
    const handlers: Handlers = {
      relocate: ({ sequence, trimmedTo }, { tail }) => {
        if (this.refusal !== null) {
          const refused = this.refusal;
          if (refused.retry !== "never") this.refusal = null;
          throw refused;
        }
        this.trimmedTo.push(trimmedTo);
        const moves = unpackMoves(joined(tail));
        for (const move of moves) this.moves.push({ sequence, ...move });
        return { reply: { bytes: moves.reduce((sum, { length }) => sum + length, 0) } };
      },
      stillAt: async (_request, { tail }) => {
        await this.beforeStillAt();
        return { reply: {}, tail: [packPieces(unpackPieces(joined(tail)))] };
      },
      cleanerTrimmed: ({ trimmedTo }) => {
        this.trimmedTo.push(trimmedTo);
        return { reply: {} };
      },
    };
    const { network, clock } = instance.ports;
    const peers = new Peers({ network, clock, map: options.map, handlers, self: SELF });
    this.options = { ...options, peers, ports: instance.ports, self: SELF };
    this.reader = new LogReader(this.options);
  }

  static async start(): Promise<Bench> {
    const cluster = await Cluster.start({ seed: 1, servers: 3 });
    cluster.change((map) => ({
      ...map,
      members: [
        ...map.members,
        { ...(map.members[0] as (typeof map.members)[0]), id: SELF, name: "cleaner", roles: ["manager", "cleaner"] },
      ],
      slots: map.slots.map((slot) => ({ ...slot, manager: SELF, term: 1 })),
    }));
    return new Bench(cluster);
  }

  begin(): Promise<CleanerLog> {
    return this.cluster.run(CleanerLog.begin(this.options, GROUP));
  }
}
