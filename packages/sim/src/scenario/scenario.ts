import { Conflicts } from "../model/conflicts.ts";
import type { SeededRandom } from "../random.ts";
import { Cleanings } from "./cleanings.ts";
import { CRASHES, Crashes } from "./crashes.ts";
import { DISTURBANCES } from "./disturbances.ts";
import { noLeaks } from "./leaks.ts";
import { nothingLost } from "./losses.ts";
import { SlotMoves } from "./moves.ts";
import { nothingWrong } from "./nothing-wrong.ts";
import { explain, ScenarioError, type ScenarioOptions, type ScenarioResult } from "./outcome.ts";
import { Regroupings } from "./regroupings.ts";
import type { Seat } from "./seat.ts";
import { CALLER, ROOT, Stage } from "./stage.ts";
import { checkTokens } from "./tokens.ts";

export const OPERATIONS = 2_000;
const VERIFY_EVERY = 400;
const CHECK_EVERY = 20;
const CRASH_CHANCE = 1 / 350;
const DISTURBANCE_CHANCE = 1 / 40;
const SYNC_BESIDE_CHANCE = 1 / 30;
const SYNCS_BESIDE_MAX = 3;
const CONFLICTS_CHANCE = 1 / 40;
const THINK_MS_MAX = 8;
const PAUSE_CHANCE = 1 / 60;
const PAUSE_MS_MAX = 2_500;
const LEAK_LIMIT_MS = 400_000;
const FSCK_LIMIT_MS = 400_000;
const MOVED_LIMIT_MS = 300_000;
/** Once nothing goes wrong any more. */
const PROGRESS_OPERATIONS = 5;
const PROGRESS_LIMIT_MS = 20_000;

/** One cluster from one seed: random operations on some mounts, crashes and faults, and everything that comes back held against the
 * model. Rejects a `ScenarioError`. */
export function runScenario(options: ScenarioOptions): Promise<ScenarioResult> {
  return new Scenario(options).run();
}

class Scenario {
  readonly #options: ScenarioOptions;
  readonly #operations: number;
  readonly #stage: Stage;
  readonly #crashes: Crashes;
  readonly #moves: SlotMoves;
  readonly #cleanings: Cleanings;
  readonly #regroupings: Regroupings;
  readonly #random: SeededRandom;
  readonly #faults: SeededRandom;
  /** Steps at which something was done to the cluster. */
  readonly #faultSteps: number[] = [];
  /** What mounts do at once; anew after one of them has lost something. */
  #conflicts: Conflicts | null = null;
  #conflictsBegun = 0;

  constructor(options: ScenarioOptions) {
    this.#options = options;
    this.#operations = options.operations ?? OPERATIONS;
    this.#stage = new Stage(options);
    this.#crashes = new Crashes(this.#stage);
    this.#random = this.#stage.fork("steps");
    this.#faults = this.#stage.fork("faults");
    this.#moves = new SlotMoves(this.#stage);
    this.#cleanings = new Cleanings(this.#stage);
    this.#regroupings = new Regroupings(this.#stage);
  }

  async run(): Promise<ScenarioResult> {
    const { seed } = this.#options;
    const { world, counts, shape } = this.#stage;
    const rejected = (error: unknown) => world.fail(error);
    process.on("unhandledRejection", rejected);
    try {
      await this.#run();
    } catch (error) {
      const outcome = { step: this.#stage.step, operations: this.#operations, faultSteps: this.#faultSteps, shape };
      throw new ScenarioError(seed, outcome, explain(this.#options, outcome, world, this.#stage.trace, error), error);
    } finally {
      process.off("unhandledRejection", rejected);
    }
    for (const [fault, count] of Object.entries(world.counters.all())) this.#stage.count(`fault.${fault}`, count);
    return { seed, operations: this.#operations, shape, counts, fingerprint: world.fingerprint, virtualMs: world.nowMs };
  }

  async #run(): Promise<void> {
    await this.#stage.begin();
    for (this.#stage.step = 1; this.#stage.step <= this.#operations; this.#stage.step++) {
      await this.#think();
      if (!(await this.#fault())) await this.#operate();
      if (this.#stage.step % CHECK_EVERY === 0) this.#check();
      if (this.#stage.step % VERIFY_EVERY === 0) await this.#verify([this.#random.pick(this.#stage.seats)]);
    }
    await this.#finish();
  }

  async #think(): Promise<void> {
    await this.#stage.world.advance(
      this.#random.chance(PAUSE_CHANCE) ? this.#random.between(0, PAUSE_MS_MAX) : this.#random.between(0, THINK_MS_MAX),
    );
    this.#stage.checkFailure();
  }

  /** What goes wrong at this step depends on the seed and the step alone. Answers whether an operation was carried out with it. */
  async #fault(): Promise<boolean> {
    const { step } = this.#stage;
    const { faultSteps } = this.#options;
    if (faultSteps !== undefined && !faultSteps.includes(step)) return false;
    const random = this.#faults.fork(String(step));
    const [disturbs, moves, crashes] = [random.chance(DISTURBANCE_CHANCE), this.#moves.due(random), random.chance(CRASH_CHANCE)];
    const [cleans, regroups] = [this.#cleanings.due(random), this.#regroupings.due(random)];
    if (!disturbs && !moves && !crashes && !cleans && !regroups) return false;
    this.#faultSteps.push(step);
    if (disturbs) this.#disturb(random);
    if (moves) this.#moves.begin(random);
    if (cleans) this.#cleanings.begin(random);
    if (regroups) this.#regroupings.begin(random);
    if (!crashes) return false;
    this.#conflicts = null;
    await this.#crashes.happen(random.pick(CRASHES), random);
    return true;
  }

  #disturb(random: SeededRandom): void {
    const { disturbances, fleet, cluster, seats } = this.#stage;
    if (disturbances.active || !fleet.isWhole) return;
    const kind = random.pick(DISTURBANCES);
    const [server] = disturbances.victims(random, cluster.numbers) as [number];
    const what = disturbances.begin(kind, server, random.pick(seats).mount.instance, random);
    if (what === undefined) return;
    this.#stage.count(kind);
    this.#stage.note(what);
    // A store whose index failed takes nothing more: somebody starts it again.
    if (kind === "commitError") fleet.replace(server);
  }

  async #operate(): Promise<void> {
    const { seats } = this.#stage;
    const seat = this.#random.pick(seats);
    if (seat.syncs.size < SYNCS_BESIDE_MAX && this.#random.chance(SYNC_BESIDE_CHANCE))
      seat.syncBeside((error) => this.#stage.failed(error));
    if (seats.length > 1 && this.#random.chance(CONFLICTS_CHANCE)) await this.#conflict();
    else await this.#stage.await("an operation", seat.workload.step());
  }

  /** All mounts do something at once. */
  async #conflict(): Promise<void> {
    // Who is refused for want of space may have done a part.
    if (this.#stage.disturbances.mayBeFull) return;
    this.#conflicts ??= await this.#newConflicts();
    await this.#stage.await("operations at once", this.#conflicts.round());
    this.#stage.count("conflicts");
  }

  async #newConflicts(): Promise<Conflicts> {
    const systems = this.#stage.seats.map(({ fileSystem }) => fileSystem);
    const [first] = systems as [Seat["fileSystem"]];
    const number = ++this.#conflictsBegun;
    const making = (async () => first.makeDirectory(CALLER, ROOT, `together${number}`, 0o755))();
    const { attributes } = await this.#stage.await("a directory", making);
    const conflicts = new Conflicts(systems, this.#stage.fork(`conflicts ${number}`));
    await this.#stage.await("what mounts do at once to be prepared", conflicts.prepare(attributes.ino));
    return conflicts;
  }

  // Checking.

  #check(): void {
    const clients = this.#stage.seats.flatMap(({ mount }) => (mount.instance.alive ? (mount.mount.present ?? []) : []));
    for (const client of clients) client.checkInvariants();
    checkTokens(clients);
  }

  async #verify(seats: readonly Seat[]): Promise<void> {
    const { cluster, managers, fleet } = this.#stage;
    for (const seat of seats) await this.#stage.await("verify", seat.workload.verify());
    await this.#stage.settle();
    this.#check();
    for (const number of managers) {
      const node = cluster.node(number);
      await this.#stage.await("the manager", node.managing);
      const checked = fleet.retried(
        "the check of the manager",
        () => true,
        () => node.checkInvariants(),
      );
      await this.#stage.await("the manager's invariants", checked);
    }
    await this.#stage.await("what is needed to be there", nothingLost(cluster));
  }

  // The end.

  /** Everybody gets on once nothing goes wrong any more; a clean unmount, then a power cut, loses nothing. */
  async #finish(): Promise<void> {
    const { seats, cluster, history } = this.#stage;
    await this.#stage.settle();
    for (const seat of seats) await this.#stage.await("fsyncs", Promise.all(seat.syncs));
    await this.#stage.await("emptied servers to be admitted", this.#regroupings.admitted(), MOVED_LIMIT_MS);
    await this.#progress();
    await this.#verify(seats);
    this.#stage.note("clean unmounts");
    for (const seat of seats) {
      await this.#stage.await("quit", seat.workload.quit());
      for (const [name, value] of Object.entries(seat.mount.mount.counters())) this.#stage.count(`mount.${name}`, value);
      await this.#stage.await("close", seat.mount.mount.close());
      seat.kill();
      history.synced(seat.name, history.lastNumber);
    }
    await this.#stage.settle();
    await this.#stage.await("what lies under older versions of a group to be moved", this.#regroupings.moved(), MOVED_LIMIT_MS);
    await this.#stage.await("what nobody needs to be gone", noLeaks(cluster), LEAK_LIMIT_MS);
    await this.#stage.await("fsck", nothingWrong(cluster), FSCK_LIMIT_MS);
    await this.#compareAnew();
    this.#stage.note("power of everything is cut");
    await this.#crashes.lastCut(this.#faults);
    await this.#compareAnew();
  }

  async #progress(): Promise<void> {
    for (const { name, workload } of this.#stage.seats) {
      const operations = async () => {
        for (let count = 0; count < PROGRESS_OPERATIONS; count++) await workload.step();
        await workload.sync();
      };
      await this.#stage.await(`progress of ${name} once nothing goes wrong any more`, operations(), PROGRESS_LIMIT_MS);
    }
  }

  async #compareAnew(): Promise<void> {
    const [first] = this.#stage.seats as [Seat];
    first.kill();
    await this.#stage.remount(first);
    first.workload.remounted(await this.#stage.entered(first));
    await this.#verify([first]);
  }
}
