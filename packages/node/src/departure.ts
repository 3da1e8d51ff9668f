import {
  type ClusterMap,
  DazzleError,
  findMember,
  type Handlers,
  isDazzleError,
  type Member,
  type MemberId,
  type Timer,
} from "@dazzle/core";
import type { LogOptions } from "@dazzle/log";
import { isTakenOut, whatKeeps, withLeaving, withoutMember, withStaying, withTakenOut } from "./leaving.ts";
import { changeKnowingLost, countLost } from "./lost-segments.ts";
import { isReached } from "./reached.ts";

const LOOK_MS = 500;
const BEGIN_DEADLINE_MS = 20_000;
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

/** What a machine that leaves waits for, for `dazzle leave`. */
export interface DepartureStatus {
  readonly member: MemberId;
  readonly waits: string;
}

/** Takes members out of the cluster whose rows in the map say that they leave: this machine itself, and those that are dead, where this machine is the one to
 * do that. It goes step by step, each of which the map tells, so that whoever starts anew goes on. What it stores its groups' servers move (`Rebuild`). */
export class Departure {
  readonly handlers: Handlers;
  readonly #options: DepartureOptions;
  readonly #statuses = new Map<MemberId, DepartureStatus>();
  #timer: Timer | null = null;
  #managerEnded = false;
  #stopped = false;

  constructor(options: DepartureOptions) {
    this.#options = options;
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
        if (dead === self || (await isReached(map, peers, dead)))
          throw new DazzleError("invalid", `${name} is there: dazzle leave ${name} takes it out, without --dead`);
        const count = async () => {
          const lost = await countLost(this.#options, dead, null);
          if (lost === 0 || force) return lost;
          throw new DazzleError(
            "invalid",
            `${name} can't be taken out: ${lost} segments are lost with it, that nobody else holds enough of; with --force it is taken out all the same`,
          );
        };
        const lost = await changeKnowingLost(map, dead, count, (now) => withTakenOut(now, dead, force));
        ports.logger("warning", "a dead machine is being taken out of the cluster", { member, name, lost });
        return { reply: { lost } };
      },
    };
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
    const before = this.#statuses.get(member)?.waits;
    let waits: string;
    try {
      waits = await this.#step(member);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      waits = error.message;
    }
    if (waits !== before && waits !== "") this.#options.ports.logger("info", "a machine is leaving", { member, waits });
    this.#statuses.set(member, { member, waits });
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
    if (keeps !== undefined) return keeps;
    const storing = map.current.groups.filter(({ versions }) => versions.some((row) => row.servers.some((one) => one.member === member)));
    if (storing.length > 0) return `what it stores is moved: ${storing.map(({ name }) => name).join(", ")}`;
    await map.change((now) => withoutMember(now, member));
    return "";
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
