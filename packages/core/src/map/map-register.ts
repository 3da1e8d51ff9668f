import { DazzleError, isDazzleError } from "../errors.ts";
import type { MemberId } from "../ids.ts";
import type { Address, Clock, Random } from "../ports.ts";
import { sleep } from "../time.ts";
import type { Vote } from "../wire/messages/keepers.ts";
import type { Reply, Request } from "../wire/messages.ts";
import type { Peers } from "../wire/peers.ts";
import { type Ballot, isAfter, isSameBallot } from "./ballot.ts";
import { checkSuccessor } from "./check-map.ts";
import type { ClusterMap, Member } from "./cluster-map.ts";
import type { MapStore } from "./map-cache.ts";
import { checkFormat } from "./read-map.ts";
import { hasMajorities, keeperRows } from "./voters.ts";

/** A keeper that takes longer counts as not answering. */
const ANSWER_DEADLINE_MS = 2_000;
/** How long one read or swap goes on against others that come between. */
const DEADLINE_MS = 30_000;
/** Pauses are as long as so many attempts take, longer each time: keepers that are slow must not have everybody come between everybody for ever. */
const PAUSE_MIN_MS = 8;
const PAUSE_MAX_MS = 5_000;
/** Reads that find a change under way look again so often before they interfere. */
const LOOKS = 4;
const PROPOSER_BYTES = 12;

type RoundMessage = "mapState" | "mapPrepare" | "mapAccept";
type Answers<Name extends RoundMessage> = ReadonlyMap<MemberId, Reply<Name>>;

/** Another ballot came between: nothing is known of what became of the round. */
const PREEMPTED = Symbol("preempted");

interface Found {
  readonly map: ClusterMap;
  /** Whether it is known to be decided. */
  readonly decided: boolean;
}

/** The map's register over its keepers: CASPaxos (Rystsov, 2018) whose set of voters is part of the value (rule 33).
 *
 * A map is **decided** when a majority of its keepers, and of its former ones, have accepted it under one ballot. Two rules keep the
 * decided maps in one line: a round goes on only when those that answered hold majorities of the newest map that they tell of; and
 * a map is proposed only to follow one that is known to be decided. So two rounds that could decide have a keeper in common, also where the set
 * of keepers changes between them: the joint map (`formerKeepers`) is decided by both sets, before anything counts by the new one alone. */
export class MapRegister implements MapStore {
  readonly #peers: () => Peers;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #seeds: readonly Address[];
  readonly #proposer: string;
  /** Says whom to ask first; nothing depends on its being new. */
  #newest: ClusterMap;
  #counter = 0;
  /** Rounds one after the other: two of one process would only come between each other. */
  #turn: Promise<unknown> = Promise.resolve();

  /** `map`: some decided map of the cluster. `seeds`: where members may answer if its keepers are all gone. */
  constructor(options: { peers: () => Peers; clock: Clock; random: Random; map: ClusterMap; seeds?: readonly Address[] }) {
    this.#peers = options.peers;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#seeds = options.seeds ?? [];
    this.#newest = options.map;
    this.#proposer = Buffer.from(options.random.bytes(PROPOSER_BYTES)).toString("hex");
  }

  /** Rejects `unreachable`, naming them, where no majority of the keepers answers. */
  async read(): Promise<ClusterMap> {
    return (await this.readVote()).map;
  }

  /** As `read`, with a ballot under which it was decided. */
  async readVote(): Promise<Vote> {
    try {
      return await this.#read();
    } catch (error) {
      if (!isDazzleError(error, "unreachable") || !(await this.#askAround())) throw error;
      return this.#read();
    }
  }

  /** Rejects `versionConflict`, and `unreachable` or `timedOut`; after either of the three the change may still have taken place, or still do:
   * who reads sees whether it has. Rejects `badMessage` for a map that may not follow. */
  async compareAndSwap(expected: number, next: ClusterMap): Promise<void> {
    let interferes = false;
    await this.#round("changing the cluster map", async (ballot) => {
      // Who was come between has most likely lost, and need not come between others to hear so.
      const seen = interferes ? await this.#look() : undefined;
      interferes = true;
      const found = seen !== undefined && seen.map.version > expected ? { map: seen.map, decided: true } : await this.#prepare(ballot);
      if (found === PREEMPTED) return PREEMPTED;
      const { version } = found.map;
      if (found.decided && version < expected)
        throw new DazzleError(
          "corrupt",
          `the keepers tell map ${version}, and ${expected} was decided: did one come back with an old disk?`,
        );
      if (version !== expected) throw new DazzleError("versionConflict", `the cluster map is at ${version}, not ${expected}`);
      if (found.decided) checkSuccessor(found.map, next);
      const accepted = await this.#accept(ballot, found.decided ? next : found.map);
      return found.decided ? accepted : PREEMPTED;
    });
    this.#learn(next);
  }

  #learn(map: ClusterMap): void {
    if (map.version > this.#newest.version) this.#newest = map;
  }

  async #read(): Promise<Vote> {
    let vote: Vote | undefined;
    for (let look = 1; look <= LOOKS && vote === undefined; look++) {
      const beganMs = this.#clock.nowMs();
      vote = await this.#look();
      if (vote === undefined) await this.#pause(2 ** look, beganMs);
    }
    vote ??= await this.#round("reading the cluster map", async (ballot) => {
      // Those who come between write: what they decide is there to be read.
      const seen = await this.#look();
      if (seen !== undefined) return seen;
      const found = await this.#prepare(ballot);
      if (found === PREEMPTED || (await this.#accept(ballot, found.map)) === PREEMPTED) return PREEMPTED;
      return { accepted: ballot, map: found.map };
    });
    this.#learn(vote.map);
    return vote;
  }

  /** The decided map where majorities tell of the same ballot. Nothing decided before they were asked can be newer: it would have a keeper among them. */
  async #look(): Promise<Vote | undefined> {
    const decided = await this.#poll("mapState", {}, (votes) => {
      for (const vote of votes.values()) if (isDecided(votes, vote)) return vote;
      return isAnswered(votes) ? null : undefined;
    });
    return decided ?? undefined;
  }

  async #prepare(ballot: Ballot): Promise<Found | typeof PREEMPTED> {
    return this.#poll("mapPrepare", { ballot }, (votes) => {
      if (this.#isRefused(votes, ballot)) return PREEMPTED;
      const newest = newestOf(votes);
      if (newest === undefined || !isAnswered(votes)) return undefined;
      return { map: newest.map, decided: isDecided(votes, newest) };
    });
  }

  async #accept(ballot: Ballot, map: ClusterMap): Promise<typeof PREEMPTED | undefined> {
    return (
      (await this.#poll(
        "mapAccept",
        { ballot, map },
        (answers) => {
          if (hasMajorities(map, (member) => isSameBallot(answers.get(member)?.promised, ballot))) return null;
          return this.#isRefused(answers, ballot) ? PREEMPTED : undefined;
        },
        map,
      )) ?? undefined
    );
  }

  #isRefused(answers: ReadonlyMap<MemberId, { readonly promised: Ballot }>, ballot: Ballot): boolean {
    let refused = false;
    for (const { promised } of answers.values()) {
      this.#counter = Math.max(this.#counter, promised.counter);
      if (isAfter(promised, ballot)) refused = true;
    }
    return refused;
  }

  /** Rounds under new ballots, until one is not preempted. */
  #round<T>(what: string, attempt: (ballot: Ballot) => Promise<T | typeof PREEMPTED>): Promise<T> {
    const outcome = this.#turn.then(async () => {
      const endMs = this.#clock.nowMs() + DEADLINE_MS;
      for (let factor = 1; ; factor *= 2) {
        const beganMs = this.#clock.nowMs();
        const result = await attempt({ counter: ++this.#counter, proposer: this.#proposer });
        if (result !== PREEMPTED) return result;
        if (this.#clock.nowMs() > endMs) throw new DazzleError("timedOut", `${what}: others came between for ${DEADLINE_MS} ms`);
        await this.#pause(factor, beganMs);
      }
    });
    this.#turn = outcome.catch(() => {});
    return outcome;
  }

  /** Up to `factor` times as long as what began then has taken. */
  #pause(factor: number, beganMs: number): Promise<void> {
    const tookMs = Math.max(PAUSE_MIN_MS, this.#clock.nowMs() - beganMs);
    return sleep(this.#clock, 1 + this.#random.below(Math.ceil(Math.min(factor * tookMs, PAUSE_MAX_MS))));
  }

  /** Asks every keeper at once, and those of newer maps as they are heard of, until `decide` answers something. */
  #poll<Name extends RoundMessage, T>(
    message: Name,
    request: Request<Name>,
    decide: (answers: Answers<Name>) => T | undefined,
    map = this.#newest,
  ): Promise<T> {
    const asked = new Set<MemberId>();
    const answers = new Map<MemberId, Reply<Name>>();
    const failures: string[] = [];
    return new Promise((resolve, reject) => {
      const ask = (of: ClusterMap) => {
        for (const row of keeperRows(of)) {
          if (asked.has(row.id)) continue;
          asked.add(row.id);
          this.#ask(row, message, request).then(
            (reply) => {
              answers.set(row.id, reply);
              const { map: told } = reply as Partial<Vote>;
              if (told !== undefined) ask(told);
              step();
            },
            (error: Error) => {
              failures.push(`${row.name}: ${error.message}`);
              step();
            },
          );
        }
      };
      const step = () => {
        try {
          const result = decide(answers);
          if (result !== undefined) resolve(result);
          else if (asked.size === answers.size + failures.length)
            reject(new DazzleError("unreachable", `no majority of the map's keepers answers ${message}: ${failures.join("; ")}`));
        } catch (error) {
          reject(error);
        }
      };
      ask(map);
      step();
    });
  }

  async #ask<Name extends RoundMessage>(row: Member, message: Name, request: Request<Name>): Promise<Reply<Name>> {
    const { reply } = await this.#peers().callMember(row, message, request, { deadlineMs: ANSWER_DEADLINE_MS });
    const { map } = reply as Partial<Vote>;
    if (map !== undefined) {
      checkFormat(map);
      if (map.clusterId !== this.#newest.clusterId) throw new DazzleError("wrongCluster", `it is of cluster ${map.clusterId}`);
    }
    return reply;
  }

  /** Keepers may have been replaced, all of them, while this process slept: any member may know. Answers whether one knew a newer map. */
  async #askAround(): Promise<boolean> {
    const { version } = this.#newest;
    const peers = this.#peers();
    const learn = ({ reply }: { reply: Reply<"mapRead"> }) => {
      checkFormat(reply.map);
      if (reply.map.clusterId === this.#newest.clusterId) this.#learn(reply.map);
    };
    const options = { deadlineMs: ANSWER_DEADLINE_MS };
    await Promise.allSettled([
      ...this.#newest.members.filter(({ id }) => id !== peers.self).map((row) => peers.callMember(row, "mapRead", {}, options).then(learn)),
      ...this.#seeds.map(async (address) => learn(await (await peers.connectTo(address)).call("mapRead", {}, options))),
    ]);
    return this.#newest.version > version;
  }
}

function newestOf(votes: ReadonlyMap<MemberId, Vote>): Vote | undefined {
  let newest: Vote | undefined;
  for (const vote of votes.values()) if (newest === undefined || isAfter(vote.accepted, newest.accepted)) newest = vote;
  return newest;
}

/** Whether majorities of the newest map that they tell of have answered. */
function isAnswered(votes: ReadonlyMap<MemberId, Vote>): boolean {
  const newest = newestOf(votes);
  return newest !== undefined && hasMajorities(newest.map, (member) => votes.has(member));
}

function isDecided(votes: ReadonlyMap<MemberId, Vote>, { map, accepted }: Vote): boolean {
  return hasMajorities(map, (member) => isSameBallot(votes.get(member)?.accepted, accepted));
}
