import {
  type Connection,
  type DiskFile,
  decodeFragmentHeader,
  decodeHeader,
  decodeSections,
  encodeReply,
  type Frame,
  joined,
  type MessageName,
  type Move,
  type Network,
  type Request,
  unpackMoves,
} from "@dazzle/core";
import type { Disguise, Instance } from "@dazzle/sim";

/** How long a held back segment is not stored. */
const HELD_MS = 400;
const HOLDS_ONE_IN = 8;
const DROPS_ONE_IN = 8;
const LOSES_TIMERS_ONE_IN = 50;

/** A disk that says it has synced and has not. */
export const skippedSync: Disguise = {
  disk: (disk) =>
    new Proxy(disk, {
      get: (target, property) => {
        if (property !== "open") return bound(target, property);
        return async (...parameters: Parameters<typeof disk.open>) => withoutSync(await target.open(...parameters));
      },
    }),
};

function withoutSync(file: DiskFile): DiskFile {
  return new Proxy(file, {
    get: (target, property) => (property === "sync" ? () => Promise.resolve() : bound(target, property)),
  });
}

/** A mount that leaves out what the last section of some transactions says that it ships. */
export const droppedDelta: Disguise = {
  network: (network, instance) => (isMount(instance) ? withConnections(network, (inner) => droppingDeltas(inner, instance)) : network),
};

function droppingDeltas(inner: Connection, { ports }: Instance): Connection {
  return disguised(inner, {
    send: (frame) => {
      const packet = decodeHeader(frame.header);
      const isShipment = packet.kind === "request" && packet.message === "ship";
      if (!isShipment || ports.random.below(DROPS_ONE_IN) > 0) return inner.send(frame);
      const sections = [...decodeSections(joined(frame.tail))].map(({ whole }) => Buffer.from(whole));
      const last = sections.pop() as Buffer;
      last.writeUInt32LE(0, 4);
      inner.send({ header: frame.header, tail: [...sections, last.subarray(0, 8)] });
    },
  });
}

/** A mount's connections that answer some stores by themselves, and send them a while later: what comes after such a segment
 * is told, and it is nowhere. */
export const toldEarly: Disguise = {
  network: (network, instance) => (isMount(instance) ? withConnections(network, (inner) => answeringStores(inner, instance)) : network),
};

function answeringStores(inner: Connection, { ports }: Instance): Connection {
  const stores = new Set<number>();
  let handler: (frame: Frame) => void = () => {};
  let boot: unknown;
  let holding = 0;
  return disguised(inner, {
    onFrame: (listener) => {
      handler = listener;
      inner.onFrame((frame) => {
        const packet = decodeHeader(frame.header);
        if (packet.kind === "reply" && stores.delete(packet.id)) boot = packet.fields[0];
        listener(frame);
      });
    },
    send: (frame) => {
      const packet = decodeHeader(frame.header);
      if (packet.kind !== "request") return inner.send(frame);
      if (packet.message === "read" && holding > 0) {
        ports.clock.after(HELD_MS + 2, () => inner.send(frame));
        return;
      }
      if (packet.message !== "store") return inner.send(frame);
      const { header } = decodeFragmentHeader(joined(frame.tail));
      if (boot === undefined || header.sequence % HOLDS_ONE_IN > 0) {
        stores.add(packet.id);
        return inner.send(frame);
      }
      const reply = { boot, durable: 0, ticket: 0 };
      ports.clock.soon(() => handler({ header: encodeReply(packet.id, "store", packet.mapVersion, reply), tail: [] }));
      const held = { header: Buffer.from(frame.header), tail: [Buffer.concat(frame.tail)] };
      holding++;
      ports.clock.after(HELD_MS, () => {
        holding--;
        inner.send(held);
      });
    },
  });
}

/** A mount that says it has given a token back, and goes on under it. */
export const ignoredRevoke = (isOn = () => true): Disguise => ({
  network: (network, instance) =>
    isMount(instance) ? withConnections(network, (inner) => answering(inner, "revoke", { open: false, from: 0, to: 0 }, isOn)) : network,
});

/** Storage servers that say they have deleted segments, and keep them. */
export const keptSegments = (isOn = () => true): Disguise => ({
  network: (network, instance) =>
    isMount(instance)
      ? network
      : {
          listen: (address, accept) => network.listen(address, (connection) => accept(answering(connection, "delete", {}, isOn))),
          connect: (address, deadlineMs) => network.connect(address, deadlineMs),
        },
});

/** Servers that nobody hears say whether they hold anything under an older version of a group. */
export const silentAboutVersions: Disguise = {
  network: (network, instance) =>
    isMount(instance) ? network : withConnections(network, (inner) => withholding(inner, "heldUnder", () => true)),
};

/** A mount that never says what it holds in slots that changed hands. */
export const withheld = (name: string, message: MessageName, isOn: () => boolean): Disguise => ({
  network: (network, instance) =>
    instance.name === name ? withConnections(network, (inner) => withholding(inner, message, isOn)) : network,
});

/** Requests of one kind never leave. */
function withholding(inner: Connection, message: MessageName, isOn: () => boolean): Connection {
  return disguised(inner, {
    send: (frame) => {
      const packet = decodeHeader(frame.header);
      if (packet.kind !== "request" || packet.message !== message || !isOn()) inner.send(frame);
    },
  });
}

/** What a cleaner asked the managers to move. */
export interface HeldRelocation {
  readonly request: Request<"relocate">;
  readonly tail: Buffer;
  readonly moves: readonly Move[];
}

/** Holds back what cleaners ask managers on other machines to move, until it is told to let go. */
export class RelocationGate {
  readonly held: HeldRelocation[] = [];
  #waiting: (() => void)[] | null = [];

  get disguise(): Disguise {
    return { network: (network, instance) => (isMount(instance) ? network : withConnections(network, (inner) => this.#holding(inner))) };
  }

  #holding(inner: Connection): Connection {
    return disguised(inner, {
      send: (frame) => {
        const packet = decodeHeader(frame.header);
        if (packet.kind !== "request" || packet.message !== "relocate" || this.#waiting === null) return inner.send(frame);
        const [header, tail] = [Buffer.from(frame.header), Buffer.concat(frame.tail)];
        const [log, sequence, group, groupVersion, trimmedTo] = packet.fields as number[];
        const request = { log, sequence, group, groupVersion, trimmedTo } as Request<"relocate">;
        this.held.push({ request, tail, moves: unpackMoves(tail) });
        this.#waiting.push(() => inner.send({ header, tail: [tail] }));
      },
    });
  }

  letGo(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const send of waiting) send();
  }
}

/** Requests of one kind are answered, and never carried out. */
function answering(inner: Connection, message: MessageName, reply: object, isOn: () => boolean): Connection {
  return disguised(inner, {
    onFrame: (listener) =>
      inner.onFrame((frame) => {
        const packet = decodeHeader(frame.header);
        if (packet.kind !== "request" || packet.message !== message || !isOn()) return listener(frame);
        inner.send({ header: encodeReply(packet.id, message, packet.mapVersion, reply), tail: [] });
      }),
  });
}

/** A mount whose fsync answers at once. */
export const skippedFsync: Disguise = {
  fileSystem: (fileSystem) =>
    new Proxy(fileSystem, {
      get: (target, property) => (property === "fsync" || property === "fsyncDirectory" ? () => {} : bound(target, property)),
    }),
};

/** A mount some of whose timers never fire: what they were to wake waits for ever. */
export const lostTimers: Disguise = {
  clock: (clock, instance) =>
    isMount(instance)
      ? {
          nowMs: () => clock.nowMs(),
          wallTimeNs: () => clock.wallTimeNs(),
          soon: (action) => clock.soon(action),
          after: (delayMs, action) => clock.after(delayMs, instance.ports.random.below(LOSES_TIMERS_ONE_IN) > 0 ? action : () => {}),
        }
      : clock,
};

function isMount(instance: Instance): boolean {
  return instance.name.startsWith("mount");
}

export function withConnections(network: Network, disguise: (inner: Connection) => Connection): Network {
  return {
    listen: (address, accept) => network.listen(address, accept),
    connect: async (address, deadlineMs) => disguise(await network.connect(address, deadlineMs)),
  };
}

export function disguised(inner: Connection, changes: Partial<Connection>): Connection {
  return new Proxy(inner, { get: (target, property) => Reflect.get(changes, property) ?? bound(target, property) });
}

/** Private fields are found through the object itself, never through its proxy. */
function bound<T extends object>(target: T, property: PropertyKey): unknown {
  const value: unknown = Reflect.get(target, property, target);
  return typeof value === "function" ? value.bind(target) : value;
}
