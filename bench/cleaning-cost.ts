import { writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import type { Policy } from "@dazzle/cleaner";
import { SeededRandom } from "@dazzle/sim";
import { progress } from "./bench.ts";
import { type Line, lineChart } from "./cleaning/line-chart.ts";
import { type Cost, LogModel } from "./cleaning/log-model.ts";
import { PATTERNS, type Pattern, shuffled, updates } from "./cleaning/updates.ts";

const SEED = 1;
const CHART = join(import.meta.dirname, "../docs/cleaning-cost.svg");
const UTILISATIONS = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9];
const POLICIES: Readonly<Record<Policy, { name: string; colour: string }>> = {
  greedy: { name: "greedy", colour: "#d62728" },
  costBenefit: { name: "cost-benefit", colour: "#1f77b4" },
  adaptive: { name: "adaptive (shipped)", colour: "#2ca02c" },
};
/** How often each file is overwritten on average, before counting begins and while it lasts. */
const WARM_UPDATES = 10;
const COUNTED_UPDATES = 5;

interface Row {
  readonly pattern: Pattern;
  readonly policy: Policy;
  readonly utilisation: number;
  readonly cost: Cost;
}

/** What cleaning costs against how full the disk is, in a model of a disk that a seed decides, with the functions that ship. Draws docs/cleaning-cost.svg. */
export function measureCleaningCost(): void {
  const rows: Row[] = [];
  for (const pattern of PATTERNS) {
    for (const policy of Object.keys(POLICIES) as Policy[]) {
      for (const utilisation of UTILISATIONS) rows.push({ pattern, policy, utilisation, cost: costOf(pattern, policy, utilisation) });
      progress(`${pattern}, ${policy}`);
    }
  }
  writeFileSync(CHART, chart(rows));
  process.stdout.write(`${table(rows)}\nThe curves are in ${relative(process.cwd(), CHART)}.\n`);
}

function costOf(pattern: Pattern, policy: Policy, utilisation: number): Cost {
  const random = new SeededRandom(`${SEED}/${pattern}/${utilisation}`);
  const files = LogModel.files(utilisation);
  const model = new LogModel(policy, shuffled(files, random));
  const next = updates(pattern, files, random);
  for (let done = 0; done < files * WARM_UPDATES; done++) model.write(next());
  model.begin();
  for (let done = 0; done < files * COUNTED_UPDATES; done++) model.write(next());
  return model.cost();
}

function chart(rows: readonly Row[]): string {
  const formula: Line = {
    name: "2 / (1 - u)",
    colour: "#888",
    dashed: true,
    points: Array.from({ length: 71 }, (_, index) => 0.2 + index / 100).map((u) => [u, 2 / (1 - u)] as const),
  };
  const panels = PATTERNS.map((pattern) => ({
    title: pattern,
    lines: [
      formula,
      ...Object.entries(POLICIES).map(([policy, { name, colour }]) => ({
        name,
        colour,
        dashed: false,
        points: rows
          .filter((row) => row.pattern === pattern && row.policy === policy)
          .map(({ utilisation, cost }) => [utilisation, cost.wholeReads] as const),
      })),
    ],
  }));
  return lineChart(
    "Write cost against the share of the disk that lives",
    panels,
    { label: "share of the disk that lives", from: 0.2, to: 0.9, step: 0.1 },
    { label: "write cost", from: 0, to: 14, step: 2 },
  );
}

function table(rows: readonly Row[]): string {
  const cells = rows.map(({ pattern, policy, utilisation, cost }) =>
    [
      pattern,
      policy,
      utilisation,
      cost.wholeReads.toFixed(2),
      cost.liveReads.toFixed(2),
      cost.written.toFixed(2),
      cost.cleanedAt.toFixed(2),
    ].join(" | "),
  );
  const head = "updates | policy | disk | write cost, segments read whole | live blocks read | bytes written a byte | cleaned at";
  return `| ${head} |\n|${" --- |".repeat(7)}\n${cells.map((row) => `| ${row} |\n`).join("")}`;
}
