import type { ProcessorTime } from "./processor-time.ts";

export interface Figure {
  readonly workload: string;
  readonly unit: string;
  readonly better: "more" | "less";
  readonly dazzle: readonly number[];
  /** The same on the local disk, where that means something. */
  readonly local: readonly number[];
  readonly goal: number | undefined;
  /** The best of the peers on the machine of `docs/`, for orientation. */
  readonly peer: number | undefined;
  readonly processorTime: ProcessorTime | undefined;
  /** Bytes moved, for CPU seconds a GB. */
  readonly bytes: number | undefined;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

export function best(figure: Figure): number {
  return figure.better === "more" ? Math.max(...figure.dazzle) : Math.min(...figure.dazzle);
}

/** One row a figure: medians over the rounds, the best beside it. */
export function markdown(figures: readonly Figure[]): string {
  const head = "| workload | unit | dazzle | best | local disk | local : dazzle | goal | | best peer | CPU s | CPU s a GB |\n";
  const rows = figures.map((figure) => {
    const value = median(figure.dazzle);
    const local = figure.local.length > 0 ? median(figure.local) : undefined;
    const ratio = local === undefined ? undefined : figure.better === "more" ? local / value : value / local;
    const met = figure.goal === undefined ? "" : isMet(figure, value) ? "met" : "**missed**";
    const total = figure.processorTime === undefined ? undefined : Object.values(figure.processorTime).reduce((sum, each) => sum + each, 0);
    const byGigabyte = total !== undefined && figure.bytes !== undefined ? total / (figure.bytes / 1e9) : undefined;
    const parts = Object.entries(figure.processorTime ?? {}).filter(([, each]) => each >= 0.01);
    const cpu = total === undefined ? "" : `${short(total)} (${parts.map(([name, each]) => `${name} ${short(each)}`).join(", ")})`;
    const cells = [
      figure.workload,
      figure.unit,
      short(value),
      short(best(figure)),
      short(local),
      ratio === undefined ? "" : `${short(ratio)}×`,
    ];
    return `| ${[...cells, short(figure.goal), met, short(figure.peer), cpu, short(byGigabyte)].join(" | ")} |\n`;
  });
  return `${head}|${" --- |".repeat(11)}\n${rows.join("")}`;
}

function isMet(figure: Figure, value: number): boolean {
  if (figure.goal === undefined) return true;
  return figure.better === "more" ? value >= figure.goal : value <= figure.goal;
}

function short(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return "";
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}
