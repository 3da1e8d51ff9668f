import {
  type ClusterMap,
  currentVersion,
  DazzleError,
  findMember,
  type Group,
  type GroupVersion,
  isDazzleError,
  keepersOf,
  type LogRow,
  type MemberId,
  type Role,
  type Timer,
} from "@dazzle/core";
import { drainMember, type LogOptions, LogReader } from "@dazzle/log";

const LOOK_MS = 500;
const ASK_DEADLINE_MS = 5_000;

/** The map in which a member begins to leave: from then on slots and the map's keeping go elsewhere, and its groups have a version without it, which does not
 * want it back. Undefined where it leaves already. Throws `invalid`, with what is in the way. */
export function withLeaving(map: ClusterMap, member: MemberId, force: boolean): ClusterMap | undefined {
  const row = findMember(map, member);
  if (row.leaving) return undefined;
  for (const role of ["manager", "keeper"] as const satisfies readonly Role[])
    if (row.roles.includes(role) && !map.members.some((one) => one.id !== member && !one.leaving && one.roles.includes(role)))
      throw new DazzleError("invalid", `${row.name} can't leave: it is the last ${role}`);
  const mounts = mountsOf(map, member);
  if (mounts.length > 0)
    throw new DazzleError(
      "invalid",
      `${row.name} can't leave while mounts run there: unmount ${mounts.map(({ label }) => label).join(", ")}`,
    );
  return {
    ...map,
    members: map.members.map((one) => (one === row ? { ...row, leaving: true } : one)),
    groups: map.groups.map((group) => groupWithout(group, member, row.name, force)),
  };
}

function groupWithout(group: Group, member: MemberId, name: string, force: boolean): Group {
  const wanted = group.wanted.filter((one) => one !== member);
  const current = currentVersion(group);
  const servers = current.servers.filter((server) => server.member !== member);
  if (servers.length === current.servers.length) return { ...group, wanted };
  if (servers.length === 0) throw new DazzleError("invalid", `${name} can't leave: it is the last server of the group ${group.name}`);
  const parityFragments = Math.min(current.parityFragments, servers.length - 1);
  if (parityFragments < current.parityFragments && !force)
    throw new DazzleError(
      "invalid",
      `${name} can't leave: the group ${group.name} would have ${parityFragments} parity in place of ${current.parityFragments}, ` +
        `so that the loss of ${parityFragments + 1} of its servers loses data; with --force it leaves all the same`,
    );
  const version = (current.version + 1) as GroupVersion;
  const dataFragments = Math.max(1, servers.length - parityFragments);
  return { ...group, wanted, versions: [...group.versions, { version, servers, dataFragments, parityFragments, frozen: null }] };
}

function mountsOf(map: ClusterMap, member: MemberId): LogRow[] {
  return map.logs.filter((log) => log.kind === "mount" && log.state === "live" && log.member === member);
}

/** What keeps a leaving member in the map, but for what it stores; undefined where nothing does. */
function whatKeeps(map: ClusterMap, member: MemberId): string | undefined {
  const slots = map.slots.filter((slot) => slot.manager === member).length;
  if (slots > 0) return `${slots} slots are with it`;
  const own = new Set(
    map.logs.filter((log) => log.kind === "manager" && log.member === member && log.state !== "closed").map(({ id }) => id),
  );
  const chained = map.slots.filter(({ chain }) => chain.some(({ log }) => own.has(log))).length;
  if (chained > 0) return `${chained} slots are not yet checkpointed elsewhere`;
  if (keepersOf(map).includes(member)) return "it keeps the map";
  const mounts = mountsOf(map, member);
  if (mounts.length > 0) return `mounts run there: ${mounts.map(({ label }) => label).join(", ")}`;
  return undefined;
}

/** The map without a member that leaves; undefined while something keeps it there. */
function withoutMember(map: ClusterMap, member: MemberId): ClusterMap | undefined {
  const isLeaving = map.members.some(({ id, leaving }) => id === member && leaving);
  const isLive = map.logs.some((log) => log.member === member && log.state === "live");
  const isNamed = ({ versions, wanted }: Group) =>
    wanted.includes(member) || versions.some(({ servers }) => servers.some((server) => server.member === member));
  if (!isLeaving || isLive || whatKeeps(map, member) !== undefined || map.groups.some(isNamed)) return undefined;
  return { ...map, members: map.members.filter(({ id }) => id !== member) };
}

export interface DepartureOptions extends LogOptions {
  readonly self: MemberId;
  /** Ends this machine's manager, which has no slots any more: its log has an end then. */
  readonly endManager: () => Promise<void>;
  /** It is no member any more. */
  readonly onLeft: () => void;
}

/** How far it is, for `dazzle leave`. */
export interface DepartureStatus {
  /** Written again on the others, since this node started. */
  readonly segments: number;
  readonly bytes: number;
  /** Still to be written, as far as it is known. */
  readonly left: number;
  readonly waits: string;
}

/** Takes this machine out of the cluster once its row in the map says that it leaves: step by step, each of which the map tells, so that a node that starts
 * anew goes on. */
export class Departure {
  readonly #options: DepartureOptions;
  readonly #reader: LogReader;
  #timer: Timer | null = null;
  #stopped = false;
  #status: DepartureStatus = { segments: 0, bytes: 0, left: 0, waits: "" };

  constructor(options: DepartureOptions) {
    this.#options = options;
    this.#reader = new LogReader(options);
    this.#lookSometimes();
  }

  /** Null where it does not leave. */
  get status(): DepartureStatus | null {
    return this.#isLeaving ? this.#status : null;
  }

  get #isLeaving(): boolean {
    const { map, self } = this.#options;
    return map.current.members.some(({ id, leaving }) => id === self && leaving);
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #lookSometimes(): void {
    this.#timer = this.#options.ports.clock.after(LOOK_MS, () => {
      void this.#look().finally(() => {
        if (!this.#stopped) this.#lookSometimes();
      });
    });
  }

  async #look(): Promise<void> {
    const { map, self, ports, onLeft } = this.#options;
    if (!map.current.members.some(({ id }) => id === self)) {
      this.stop();
      onLeft();
      return;
    }
    if (!this.#isLeaving) return;
    let waits: string;
    try {
      waits = await this.#step();
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      waits = error.message;
    }
    if (waits !== this.#status.waits && waits !== "") ports.logger("info", "this machine is leaving", { waits });
    this.#status = { ...this.#status, waits };
  }

  /** Answers what is waited for. */
  async #step(): Promise<string> {
    const { map, self, endManager } = this.#options;
    await map.refresh();
    const keeps = whatKeeps(map.current, self);
    const hasManager = map.current.logs.some((log) => log.kind === "manager" && log.member === self && log.state === "live");
    if (keeps === undefined && hasManager) await endManager();
    for (const { id } of map.current.groups) {
      const waits = await this.#drain(id);
      if (waits !== undefined) return waits;
    }
    if (keeps !== undefined) return keeps;
    await map.change((now) => withoutMember(now, self));
    return "";
  }

  #drain(group: number): Promise<string | undefined> {
    return drainMember({
      ...this.#options,
      group,
      member: this.#options.self,
      reader: this.#reader,
      trimmedTo: (log) => this.#trimmedTo(log),
      onRestored: (bytes, left) => {
        this.#status = { ...this.#status, segments: this.#status.segments + 1, bytes: this.#status.bytes + bytes, left };
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
