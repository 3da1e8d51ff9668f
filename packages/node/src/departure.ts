import {
  ALL_SLOTS,
  type ClusterMap,
  DazzleError,
  findMember,
  type Handlers,
  isDazzleError,
  type LogRow,
  type Member,
  type MemberId,
  type Timer,
} from "@dazzle/core";
import { drainMember, type LogOptions, LogReader, unreadableWithout } from "@dazzle/log";
import { isTakenOut, whatKeeps, withLeaving, withoutMember, withStaying, withTakenOut } from "./leaving.ts";

const LOOK_MS = 500;
const ASK_DEADLINE_MS = 5_000;
const BEGIN_DEADLINE_MS = 20_000;
/** Segments that a manager is asked about at once. */
const SEGMENTS_MAX = 1_000;
/** Whose manager takes dead members out: a slot comes to one that is up. */
const TAKING_SLOT = 0;

export interface DepartureOptions extends LogOptions {
  readonly self: MemberId;
  /** Ends this machine's manager, which has no slots any more: its log has an end then. */
  readonly endManager: () => Promise<void>;
  /** Starts it again, where this machine stays after all. */
  readonly startManager: () => void;
  /** It is no member any more. */
  readonly onLeft: () => void;
}

/** How far it is, for `dazzle leave`. */
export interface DepartureStatus {
  readonly member: MemberId;
  /** Written again on the others, since this node started. */
  readonly segments: number;
  readonly bytes: number;
  /** Still to be written, as far as it is known. */
  readonly left: number;
  readonly waits: string;
}

/** Takes members out of the cluster whose rows in the map say that they leave: this machine itself, and those that are dead, where this machine is the one to
 * do that. It goes step by step, each of which the map tells, so that whoever starts anew goes on. */
export class Departure {
  readonly handlers: Handlers;
  readonly #options: DepartureOptions;
  readonly #reader: LogReader;
  readonly #statuses = new Map<MemberId, DepartureStatus>();
  #timer: Timer | null = null;
  #managerEnded = false;
  #stopped = false;

  constructor(options: DepartureOptions) {
    this.#options = options;
    this.#reader = new LogReader(options);
    this.handlers = this.#handlers();
    this.#lookSometimes();
  }

  /** Of every member that this machine takes out. */
  get status(): readonly DepartureStatus[] {
    return [...this.#statuses.values()];
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #handlers(): Handlers {
    const { map, peers, self, ports } = this.#options;
    return {
      // The member does it itself: so it is there, to do the rest.
      leave: async ({ member, force }) => {
        const leaving = member as MemberId;
        if (leaving !== self) return peers.call(leaving, "leave", { member, force }, { deadlineMs: BEGIN_DEADLINE_MS });
        await map.refresh();
        await map.change((now) => withLeaving(now, leaving, force));
        ports.logger("info", "this machine begins to leave", { member });
        return { reply: {} };
      },
      stay: async ({ member }) => {
        await map.refresh();
        let isDone = false;
        await map.change((now) => {
          // An answer may get lost.
          if (isDone && !findMember(now, member).leaving) return undefined;
          const next = withStaying(now, member as MemberId);
          isDone = true;
          return next;
        });
        ports.logger("info", "a machine that had begun to leave stays", { member });
        return { reply: {} };
      },
      takeOut: async ({ member, force }) => {
        const dead = member as MemberId;
        await map.refresh();
        const { name } = findMember(map.current, dead);
        if (dead === self || (await this.#isReached(dead))) throw new DazzleError("invalid", `${name} is there: it leaves by itself`);
        const lost = await this.#countLost(dead);
        if (lost > 0 && !force)
          throw new DazzleError(
            "invalid",
            `${name} can't be taken out: ${lost} segments are lost with it, that nobody else holds enough of; with --force it is taken out all the same`,
          );
        await map.change((now) => withTakenOut(now, dead, force));
        ports.logger("warning", "a dead machine is being taken out of the cluster", { member, name, lost });
        return { reply: { lost } };
      },
    };
  }

  async #isReached(member: MemberId): Promise<boolean> {
    const { map, peers, self } = this.#options;
    const { store } = findMember(map.current, member);
    const others = map.current.members.filter(({ id }) => id !== member && id !== self);
    const asked = others.map(async ({ id }) => {
      const { reply } = await peers.call(id, "reaches", { member, store: store ?? "" }, { deadlineMs: ASK_DEADLINE_MS });
      if (!reply.reached) throw new DazzleError("unreachable", "it is not reached");
    });
    const own = peers.call(member, "ping", {}, { deadlineMs: ASK_DEADLINE_MS }).then(() => {});
    return Promise.any([own, ...asked]).then(
      () => true,
      () => false,
    );
  }

  /** Segments that some manager needs, and that nobody can read without the member. */
  async #countLost(member: MemberId): Promise<number> {
    let lost = 0;
    for (const { id } of this.#options.map.current.groups)
      for (const [log, sequences] of await unreadableWithout({ ...this.#options, group: id, member }))
        for (let at = 0; at < sequences.length; at += SEGMENTS_MAX) {
          const { live, trimmedTo } = await this.#asked(log, sequences.slice(at, at + SEGMENTS_MAX));
          // What is not trimmed yet is not applied everywhere either.
          lost += sequences.slice(at, at + SEGMENTS_MAX).filter((sequence) => live.has(sequence) || sequence > trimmedTo).length;
        }
    return lost;
  }

  /** What the managers say about segments of a log. Rejects where one of them that has slots does not answer. */
  async #asked(log: LogRow, sequences: readonly number[]): Promise<{ readonly live: ReadonlySet<number>; readonly trimmedTo: number }> {
    const { map, peers } = this.#options;
    const managers = new Set(map.current.slots.flatMap(({ manager }) => (manager === null ? [] : [manager])));
    const request = {
      log: log.id,
      sequences,
      low: sequences.map(() => ALL_SLOTS.low),
      high: sequences.map(() => ALL_SLOTS.high),
    };
    const replies = await Promise.all(
      [...managers].map(async (manager) => (await peers.call(manager, "liveAmong", request, { deadlineMs: BEGIN_DEADLINE_MS })).reply),
    );
    const trimmedTo = log.state === "closed" ? (log.end ?? 0) : Math.max(0, ...replies.map((reply) => reply.trimmedTo));
    return { live: new Set(replies.flatMap(({ live }) => live)), trimmedTo };
  }

  #lookSometimes(): void {
    this.#timer = this.#options.ports.clock.after(LOOK_MS, () => {
      void this.#look().finally(() => {
        if (!this.#stopped) this.#lookSometimes();
      });
    });
  }

  async #look(): Promise<void> {
    const { map, self, onLeft, startManager } = this.#options;
    const own = map.current.members.find(({ id }) => id === self);
    if (own === undefined || (isTakenOut(own) && own.roles.includes("storage"))) {
      this.stop();
      onLeft();
      return;
    }
    if (this.#managerEnded && !own.leaving) {
      this.#managerEnded = false;
      startManager();
    }
    const due = dueMembers(map.current, self);
    for (const member of this.#statuses.keys()) if (!due.includes(member)) this.#statuses.delete(member);
    for (const member of due) await this.#advance(member);
  }

  async #advance(member: MemberId): Promise<void> {
    const before = this.#statuses.get(member) ?? { member, segments: 0, bytes: 0, left: 0, waits: "" };
    this.#statuses.set(member, before);
    let waits: string;
    try {
      waits = await this.#step(member);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      waits = error.message;
    }
    if (waits !== before.waits && waits !== "") this.#options.ports.logger("info", "a machine is leaving", { member, waits });
    this.#statuses.set(member, { ...(this.#statuses.get(member) ?? before), waits });
  }

  /** Answers what is waited for. */
  async #step(member: MemberId): Promise<string> {
    const { map, self, endManager } = this.#options;
    await map.refresh();
    const keeps = whatKeeps(map.current, member);
    if (member === self && keeps === undefined && hasManager(map.current, self)) {
      this.#managerEnded = true;
      await endManager();
    }
    for (const { id } of map.current.groups) {
      const waits = await this.#drain(id, member);
      if (waits !== undefined) return waits;
    }
    if (keeps !== undefined) return keeps;
    await map.change((now) => withoutMember(now, member));
    return "";
  }

  #drain(group: number, member: MemberId): Promise<string | undefined> {
    return drainMember({
      ...this.#options,
      group,
      member,
      isDead: isTakenOut(findMember(this.#options.map.current, member)),
      reader: this.#reader,
      trimmedTo: (log) => this.#trimmedTo(log),
      onRestored: (bytes, left) => {
        const before = this.#statuses.get(member);
        if (before !== undefined)
          this.#statuses.set(member, { ...before, segments: before.segments + 1, bytes: before.bytes + bytes, left });
      },
    });
  }

  /** Up to where a log is trimmed: as its writer has told the managers, or is one. */
  async #trimmedTo(log: LogRow): Promise<number> {
    const { map, peers } = this.#options;
    const managers = new Set(
      map.current.logs.filter(({ kind, state }) => kind === "manager" && state === "live").map(({ member }) => member),
    );
    const request = { log: log.id, sequences: [1], low: [0], high: [0] };
    const asked = [...managers].map(
      async (member) => (await peers.call(member, "liveAmong", request, { deadlineMs: ASK_DEADLINE_MS })).reply,
    );
    const answers = await Promise.allSettled(asked);
    return Math.max(0, ...answers.map((answer) => (answer.status === "fulfilled" ? answer.value.trimmedTo : 0)));
  }
}

/** Who takes a member out of the cluster that leaves: itself, or another where it is dead. Null while nobody can. */
export function takerOf({ slots }: ClusterMap, member: Member): MemberId | null {
  return isTakenOut(member) ? (slots[TAKING_SLOT]?.manager ?? null) : member.id;
}

function dueMembers(map: ClusterMap, self: MemberId): MemberId[] {
  return map.members.filter((row) => row.leaving && (row.id === self || takerOf(map, row) === self)).map(({ id }) => id);
}

function hasManager({ logs }: ClusterMap, member: MemberId): boolean {
  return logs.some((log) => log.kind === "manager" && log.member === member && log.state === "live");
}
