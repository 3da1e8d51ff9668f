import {
  assert,
  DazzleError,
  type Durability,
  type FragmentHeader,
  type Handlers,
  type MapCache,
  type Ports,
  type RequestContext,
  SegmentClass,
  withDeadline,
} from "@dazzle/core";
import { ByteGate } from "./byte-gate.ts";
import { arrivedFragment } from "./fragment.ts";
import type { FragmentStore } from "./fragment-store.ts";
import type { StoredBytes } from "./stored-bytes.ts";

/** Bytes that are being written at once: enough to keep a fast disk busy, little beside what waits in sockets. */
const WRITING_BYTES_MAX = 32 * 1024 * 1024;
/** Bytes that wait for their turn: what several mounts may have on their way to one server. */
const WAITING_BYTES_MAX = 256 * 1024 * 1024;

export interface StorageHandlerOptions {
  readonly store: FragmentStore;
  readonly map: MapCache;
  readonly ports: Pick<Ports, "clock" | "logger">;
  /** Counts what they store. */
  readonly stored: StoredBytes;
}

/** The storage role's answers. Whatever the process learns of the map is durable here before anything is stored under it. */
export function storageHandlers({ store, map, ports, stored }: StorageHandlerOptions): Handlers {
  const { clock, logger } = ports;
  const { fence } = store;
  const gate = new ByteGate(clock, {
    insideMax: WRITING_BYTES_MAX,
    waitingMax: WAITING_BYTES_MAX,
    deadlineMs: store.limits.requestDeadlineMs,
  });
  const inTime = <T>(what: string, promise: Promise<T>): Promise<T> => withDeadline(clock, store.limits.requestDeadlineMs, what, promise);

  map.onChange((newer) => {
    fence.adopt(newer).catch((error: Error) => {
      logger("error", "the map can't be kept", { version: newer.version, reason: error.message });
    });
  });

  async function catchUp(): Promise<void> {
    if (fence.version < map.version) await inTime("keeping the map", fence.adopt(map.current));
  }

  async function write(
    context: RequestContext,
    how: {
      class(header: FragmentHeader): SegmentClass;
      readonly sync: boolean;
      readonly restore: boolean;
      check(header: FragmentHeader): void;
    },
  ): Promise<{ readonly reply: Durability & { readonly ticket: number } }> {
    const fragment = arrivedFragment(context.tail);
    await gate.enter(fragment.bytes, context);
    try {
      if (fence.version < map.version) await catchUp();
      const { header } = fragment.decoded;
      const reply = await store.store(fragment, { ...how, class: how.class(header) });
      stored.add(header, { bytes: fragment.bytes, restored: how.restore });
      return { reply };
    } finally {
      gate.leave(fragment.bytes);
    }
  }

  return {
    store: (request, context) =>
      write(context, {
        class: () => segmentClass(request.class),
        sync: request.sync,
        restore: false,
        check: (header) => fence.checkStore(header),
      }),

    restore: (_request, context) =>
      write(context, {
        // What ends a log must go on; what is only moved takes no room that was promised, or that unlink needs.
        class: ({ log }) => (fence.isEnding(log) ? SegmentClass.system : SegmentClass.data),
        sync: true,
        restore: true,
        check: (header) => fence.checkRestore(header),
      }),

    carry: async (request) => {
      await catchUp();
      return {
        reply: {
          carried: await inTime(
            "carry",
            store.carrier.carry(request, (fragment) => fence.checkRestore(fragment)),
          ),
        },
      };
    },

    read: (request) => store.read(request),

    readToMove: (request) => store.read(request, true),

    delete: async (request) => {
      await catchUp();
      await inTime("delete", store.delete(request, fence.endOf(request.log)));
      return { reply: {} };
    },

    list: async (request) => {
      await catchUp();
      return { reply: await inTime("list", store.list(request.log, request.after, request.limit)) };
    },

    listLogs: async () => {
      await catchUp();
      return { reply: { logs: await inTime("listLogs", store.listLogs()) } };
    },

    adopt: async (request) => {
      if (request.map.clusterId !== map.current.clusterId)
        throw new DazzleError("wrongCluster", `this is cluster ${map.current.clusterId}, not ${request.map.clusterId}`);
      map.learn(request.map);
      await inTime("adopt", fence.adopt(map.current));
      assert(fence.version >= request.map.version, "a map that was adopted counts");
      await inTime("adopt", store.syncAll());
      return { reply: { version: fence.version, store: store.storeId, boot: store.boot } };
    },

    sync: async (request) => ({ reply: await inTime("sync", store.sync(request.boot, request.ticket)) }),

    stat: () => ({ reply: store.stat() }),

    reserve: async (request) => {
      if (!Number.isSafeInteger(request.bytes) || request.bytes < 0)
        throw new DazzleError("badMessage", `${request.bytes} bytes can't be promised`);
      await catchUp();
      if (!fence.isLive(request.log)) throw new DazzleError("logSealed", `log ${request.log} is not live`);
      return { reply: await inTime("reserve", store.reserve(request.log, request.bytes)) };
    },
  };
}

function segmentClass(value: number): SegmentClass {
  const known = Object.values(SegmentClass).find((row) => row === value);
  if (known === undefined) throw new DazzleError("badMessage", `there is no segment class ${value}`);
  return known;
}
