import { DazzleError, isDazzleError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import type { Clock, Connection, Frame, Timer } from "../ports.ts";
import { decodeHeader, encodeCancel, encodeFailure, encodeReply, encodeRequest, replyShape, requestShape } from "./codec.ts";
import type { MessageName, Reply, Request } from "./messages.ts";

/** Who is at the other end, and what a handler may do with it. */
export interface RequestContext {
  /** The connection's other side, to send requests back. Undefined for a call inside the process. */
  readonly peer: RpcPeer | undefined;
  /** Aborted when the caller cancels or the connection ends. */
  readonly signal: AbortSignal;
  readonly tail: readonly Uint8Array[];
}

export interface Answered<Name extends MessageName> {
  readonly reply: Reply<Name>;
  readonly tail?: readonly Uint8Array[];
}

export type Handlers = {
  readonly [Name in MessageName]?: (request: Request<Name>, context: RequestContext) => Answered<Name> | Promise<Answered<Name>>;
};

export interface CallOptions {
  /** Sent by reference: don't touch the pieces until the call settles. */
  readonly tail?: readonly Uint8Array[];
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

export interface CallResult<Name extends MessageName> {
  readonly reply: Reply<Name>;
  readonly tail: readonly Uint8Array[];
}

/** The part of the map cache that the wire needs: every message carries the sender's version (docs/map.md). */
export interface MapVersions {
  readonly version: number;
  /** Refreshes until this version is known. */
  reach(version: number): Promise<void>;
}

interface Pending {
  readonly message: MessageName;
  resolve(result: CallResult<MessageName>): void;
  reject(error: unknown): void;
  readonly timer: Timer;
  readonly abort: (() => void) | undefined;
}

/** Requests one side may have under way on a connection. */
const IN_FLIGHT_MAX = 4_096;
const NO_TAIL: readonly Uint8Array[] = [];
/** While calls wait, silence is counted in turns of this. A turn in which this process did not run counts once, however long it was. */
const WATCH_MS = 1_000;
/** A machine that vanished never says so: after so many silent turns, each with a ping, its connection is closed. */
const SILENT_TURNS_MAX = 3;
/** Answered whatever the map says: a keeper must answer those who refresh, and stored bytes are read while no keeper is there. */
const NEED_NO_MAP: ReadonlySet<MessageName> = new Set([
  "hello",
  "mapRead",
  "mapState",
  "mapPrepare",
  "mapAccept",
  "adopt",
  "read",
  "peerRead",
  "stat",
  "vouchGone",
  "reaches",
  "status",
]);

/** One connection, requests in both directions. Every call ends: with the reply, or rejected with the other side's error,
 * `timedOut`, `cancelled` or `unreachable`. */
export class RpcPeer {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #handlers: Handlers;
  readonly #map: MapVersions;
  readonly #sent: Map<MessageName, number>;
  readonly #pending = new Map<number, Pending>();
  readonly #serving = new Map<number, Served>();
  #nextId = 1;
  #closed: string | null = null;
  #watch: Timer | null = null;
  #heard = false;
  #silentTurns = 0;
  readonly #closeHandlers: Array<(reason: string) => void> = [];

  /** `sent`: where requests are counted, by message. */
  constructor(connection: Connection, clock: Clock, handlers: Handlers, map: MapVersions, sent: Map<MessageName, number> = new Map()) {
    this.#connection = connection;
    this.#sent = sent;
    this.#clock = clock;
    this.#handlers = handlers;
    this.#map = map;
    connection.onFrame((frame) => this.#receive(frame));
    connection.onClose((reason) => this.#end(reason));
  }

  get remote(): string {
    return this.#connection.remote;
  }

  get closed(): boolean {
    return this.#closed !== null;
  }

  get bufferedBytes(): number {
    return this.#connection.bufferedBytes;
  }

  onClose(handler: (reason: string) => void): void {
    if (this.#closed !== null) handler(this.#closed);
    else this.#closeHandlers.push(handler);
  }

  close(): void {
    this.#connection.close();
  }

  call<Name extends MessageName>(message: Name, request: Request<Name>, options: CallOptions = {}): Promise<CallResult<Name>> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) return reject(new DazzleError("unreachable", `${message} to ${this.remote}: ${this.#closed}`));
      if (options.signal?.aborted) return reject(new DazzleError("cancelled", message));
      if (this.#pending.size >= IN_FLIGHT_MAX)
        return reject(new DazzleError("unreachable", `${message} to ${this.remote}: ${IN_FLIGHT_MAX} requests are under way`));
      const id = this.#nextId++;
      const deadlineMs = options.deadlineMs ?? LIMITS.requestDeadlineMs;
      const timer = this.#clock.after(deadlineMs, () =>
        this.#giveUp(id, new DazzleError("timedOut", `${message} to ${this.remote} took over ${deadlineMs} ms`)),
      );
      const abort = options.signal === undefined ? undefined : () => this.#giveUp(id, new DazzleError("cancelled", message));
      const settle = () => {
        timer.cancel();
        if (abort !== undefined) options.signal?.removeEventListener("abort", abort);
      };
      this.#pending.set(id, {
        message,
        timer,
        abort,
        resolve: (result) => {
          settle();
          resolve(result as CallResult<Name>);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      if (abort !== undefined) options.signal?.addEventListener("abort", abort, { once: true });
      if (this.#watch === null) this.#startWatch();
      this.#sent.set(message, (this.#sent.get(message) ?? 0) + 1);
      this.#connection.send({
        header: encodeRequest(id, message, this.#map.version, deadlineMs, request as object),
        tail: options.tail ?? NO_TAIL,
      });
    });
  }

  #giveUp(id: number, error: DazzleError): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.#connection.send({ header: encodeCancel(id), tail: NO_TAIL });
    pending.reject(error);
  }

  #startWatch(): void {
    this.#heard = false;
    this.#silentTurns = 0;
    this.#watch = this.#clock.after(WATCH_MS, () => this.#lookWhetherSilent());
  }

  #lookWhetherSilent(): void {
    this.#watch = null;
    if (this.#closed !== null || this.#pending.size === 0) return;
    this.#silentTurns = this.#heard ? 0 : this.#silentTurns + 1;
    this.#heard = false;
    if (this.#silentTurns >= SILENT_TURNS_MAX) {
      this.#end(`nothing came for ${(SILENT_TURNS_MAX * WATCH_MS) / 1_000} s`);
      this.#connection.close();
      return;
    }
    if (this.#silentTurns > 0)
      this.#connection.send({ header: encodeRequest(this.#nextId++, "ping", this.#map.version, WATCH_MS, {}), tail: NO_TAIL });
    this.#watch = this.#clock.after(WATCH_MS, () => this.#lookWhetherSilent());
  }

  #receive(frame: Frame): void {
    this.#heard = true;
    let packet: ReturnType<typeof decodeHeader>;
    try {
      packet = decodeHeader(frame.header);
    } catch (error) {
      this.#connection.close();
      this.#end(`sent what is no message: ${(error as Error).message}`);
      return;
    }
    switch (packet.kind) {
      case "request":
        if (packet.message === "ping")
          this.#connection.send({ header: encodeReply(packet.id, "ping", this.#map.version, {}), tail: NO_TAIL });
        else void this.#serve(packet.id, packet.message, packet.mapVersion, packet.fields, frame.tail);
        return;
      case "cancel":
        this.#serving.get(packet.id)?.abort();
        return;
      case "reply":
      case "failure": {
        if (packet.mapVersion > this.#map.version) this.#map.reach(packet.mapVersion).catch(() => {});
        const pending = this.#pending.get(packet.id);
        if (pending === undefined) return;
        this.#pending.delete(packet.id);
        if (packet.kind === "failure") {
          pending.reject(packet.error);
          return;
        }
        try {
          pending.resolve({ reply: replyShape(pending.message, packet.fields) as unknown as Reply<MessageName>, tail: frame.tail });
        } catch (error) {
          pending.reject(error);
        }
      }
    }
  }

  async #serve(
    id: number,
    message: MessageName,
    mapVersion: number,
    fields: readonly unknown[],
    tail: readonly Uint8Array[],
  ): Promise<void> {
    const served = new Served(this, tail);
    this.#serving.set(id, served);
    try {
      // Whoever is behind refreshes before it acts.
      if (mapVersion > this.#map.version && !NEED_NO_MAP.has(message)) await this.#map.reach(mapVersion);
      const answered = await dispatch(this.#handlers, message, requestShape(message, fields), served);
      this.#connection.send({ header: encodeReply(id, message, this.#map.version, answered.reply), tail: answered.tail ?? NO_TAIL });
    } catch (error) {
      const known = isDazzleError(error);
      const detail = known ? error.detail : `${message}: ${(error as Error).stack ?? String(error)}`;
      this.#connection.send({ header: encodeFailure(id, this.#map.version, known ? error.code : "inputOutput", detail), tail: NO_TAIL });
    } finally {
      this.#serving.delete(id);
    }
  }

  #end(reason: string): void {
    if (this.#closed !== null) return;
    this.#closed = reason;
    this.#watch?.cancel();
    this.#watch = null;
    for (const served of this.#serving.values()) served.abort();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const call of pending) call.reject(new DazzleError("unreachable", `${call.message} to ${this.remote}: ${reason}`));
    for (const handler of this.#closeHandlers) handler(reason);
  }
}

/** A request being answered. Its signal is made when a handler asks for it: most never do, and it costs more than the rest. */
export class Served implements RequestContext {
  readonly peer: RpcPeer | undefined;
  readonly tail: readonly Uint8Array[];
  #controller: AbortController | null = null;
  #aborted = false;

  constructor(peer: RpcPeer | undefined, tail: readonly Uint8Array[]) {
    this.peer = peer;
    this.tail = tail;
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  abort(): void {
    this.#aborted = true;
    this.#controller?.abort();
  }
}

/** Runs the handler of a message; `badMessage` where this process does not play that role. */
export async function dispatch<Name extends MessageName>(
  handlers: Handlers,
  message: Name,
  request: object,
  context: RequestContext,
): Promise<Answered<Name>> {
  const handler = handlers[message] as ((request: object, context: RequestContext) => Answered<Name> | Promise<Answered<Name>>) | undefined;
  if (handler === undefined) throw new DazzleError("badMessage", `nobody here answers ${message}`);
  return handler(request, context);
}
