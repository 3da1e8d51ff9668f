import { commandFrom, commandOf, runScenario, ScenarioError, type ScenarioOptions, shapeOf, shrunk, UsageError } from "@dazzle/sim";
import test from "ava";

test("what a command says is what runs", (t) => {
  t.deepEqual(commandFrom([]), { first: 1, seeds: 1, minutes: undefined, verbose: false, scenario: {} });
  const { scenario, first } = commandFrom(["--seed", "17", "--operations", "300", "--mounts", "2", "--faults", "3,40"]);
  t.deepEqual([first, scenario], [17, { operations: 300, mounts: 2, faultSteps: [3, 40] }]);
  t.is(commandOf({ seed: first, ...scenario }), "npm run sim -- --seed 17 --operations 300 --mounts 2 --faults 3,40");
  t.deepEqual(commandFrom(["--faults", "none"]), { first: 1, seeds: 1, minutes: undefined, verbose: false, scenario: { faultSteps: [] } });
  t.is(commandFrom(["--minutes", "0.5"]) === "help" ? 0 : (commandFrom(["--minutes", "0.5"]) as { minutes: number }).minutes, 0.5);
  t.is(commandFrom(["--help"]), "help");
});

for (const args of [["--seed", "x"], ["--mounts", "9"], ["--managers", "0"], ["--faults", "a"], ["--minutes", "-1"], ["--nothing"], ["17"]])
  test(`a wrong option is named: ${args.join(" ")}`, (t) => {
    const error = t.throws(() => commandFrom(args), { instanceOf: UsageError });
    t.true(error.message.includes((args[0] as string).replace(/^--/, "")));
  });

test("the 300 seeds of CI come in all shapes, and what is asked for stays", (t) => {
  const shapes = Array.from({ length: 300 }, (_, before) => shapeOf(before + 1, {}));
  t.is(new Set(shapes.map(({ mounts, managers, keepers }) => `${mounts} ${managers} ${keepers}`)).size, 3 * 3 * 2);
  t.is(new Set(shapes.map(({ mounts, managers, parity }) => `${mounts} ${managers} ${parity}`)).size, 3 * 3 * 2);
  t.is(new Set(shapes.map(({ mounts, managers, groups }) => `${mounts} ${managers} ${groups}`)).size, 3 * 3 * 2);
  t.is(new Set(shapes.map(({ mounts, managers, spares }) => `${mounts} ${managers} ${spares}`)).size, 3 * 3 * 2);
  t.like(shapeOf(1, { mounts: 7, parity: 2 }), { mounts: 7, parity: 2 });
});

/** Fails with two mounts or more, from 130 operations on, where something is done at the steps 40 and 120. */
async function bug(options: ScenarioOptions): Promise<ScenarioError | null> {
  const {
    seed,
    operations = 2_000,
    mounts = 3,
    managers = 3,
    keepers = 3,
    parity = 2,
    groups = 2,
    cleaners = 3,
    spares = 1,
    data = 2,
    faultSteps = [10, 40, 70, 120, 900],
  } = options;
  if (mounts < 2 || operations < 130 || ![40, 120].every((step) => faultSteps.includes(step))) return null;
  return new ScenarioError(
    seed,
    { step: 130, operations, faultSteps, shape: { mounts, managers, keepers, parity, groups, cleaners, spares, data } },
    "a bug",
    null,
  );
}

test("a failing seed is shrunk to what it takes to fail", async (t) => {
  const error = (await bug({ seed: 5 })) as ScenarioError;
  const least = await shrunk({ seed: 5 }, error, bug, () => false);
  t.is(
    commandOf(least),
    "npm run sim -- --seed 5 --operations 130 --mounts 2 --managers 1 --keepers 1 --parity 1 --groups 1 --cleaners 0 --spares 0 --data 0 --faults 40,120",
  );
});

test("shrinking ends when its time is over, with what was found until then", async (t) => {
  const error = (await bug({ seed: 5 })) as ScenarioError;
  let left = 2;
  const run = (options: ScenarioOptions) => {
    left--;
    return bug(options);
  };
  const least = await shrunk({ seed: 5 }, error, run, () => left <= 0);
  t.is(
    commandOf(least),
    "npm run sim -- --seed 5 --operations 130 --mounts 3 --managers 3 --keepers 3 --parity 2 --groups 2 --cleaners 3 --spares 1 --data 2 --faults 10,40,70,120",
  );
});

test("one seed decides everything that a scenario does", async (t) => {
  const runs = [await runScenario({ seed: 3, operations: 150 }), await runScenario({ seed: 3, operations: 150 })];
  t.is(runs[0]?.fingerprint, runs[1]?.fingerprint);
  t.not((await runScenario({ seed: 4, operations: 150 })).fingerprint, runs[0]?.fingerprint);
});
