/** One line through (x, y) points. */
export interface Line {
  readonly name: string;
  readonly colour: string;
  readonly dashed: boolean;
  readonly points: readonly (readonly [number, number])[];
}

export interface Panel {
  readonly title: string;
  readonly lines: readonly Line[];
}

export interface Axis {
  readonly label: string;
  readonly from: number;
  readonly to: number;
  readonly step: number;
}

const WIDTH = 300;
const HEIGHT = 260;
const MARGIN = { left: 48, right: 12, top: 64, bottom: 44 } as const;
const LEGEND_Y = 20;

/** Panels of lines side by side over the same axes, with one legend, as an SVG document. What lies above the y axis is cut off. */
export function lineChart(title: string, panels: readonly Panel[], x: Axis, y: Axis): string {
  const column = MARGIN.left + WIDTH + MARGIN.right;
  const width = panels.length * column;
  const height = MARGIN.top + HEIGHT + MARGIN.bottom;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    `<clipPath id="panel"><rect width="${WIDTH}" height="${HEIGHT}"/></clipPath>`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    ...legend(panels[0]?.lines ?? []),
    ...panels.flatMap((panel, index) => [
      `<g transform="translate(${index * column + MARGIN.left} ${MARGIN.top})">`,
      ...drawn(panel, x, y),
      "</g>",
    ]),
    "</svg>",
    "",
  ].join("\n");
}

function legend(lines: readonly Line[]): string[] {
  return lines.flatMap((line, index) => {
    const left = MARGIN.left + index * 220;
    return [`<path d="M${left} ${LEGEND_Y}h28" ${stroke(line)}/>`, `<text x="${left + 34}" y="${LEGEND_Y + 4}">${line.name}</text>`];
  });
}

function drawn({ title, lines }: Panel, x: Axis, y: Axis): string[] {
  const across = (value: number) => round(((value - x.from) / (x.to - x.from)) * WIDTH);
  const up = (value: number) => round(HEIGHT - ((value - y.from) / (y.to - y.from)) * HEIGHT);
  const path = (points: Line["points"]) => `M${points.map(([px, py]) => `${across(px)} ${up(py)}`).join("L")}`;
  return [
    `<text x="${WIDTH / 2}" y="-10" text-anchor="middle" font-weight="bold">${title}</text>`,
    ...ticks(y).map(
      (value) => `<path d="M0 ${up(value)}h${WIDTH}" stroke="#ddd"/><text x="-6" y="${up(value) + 4}" text-anchor="end">${value}</text>`,
    ),
    ...ticks(x).map((value) => `<text x="${across(value)}" y="${HEIGHT + 16}" text-anchor="middle">${value}</text>`),
    `<text x="${WIDTH / 2}" y="${HEIGHT + 34}" text-anchor="middle">${x.label}</text>`,
    `<text transform="translate(-32 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">${y.label}</text>`,
    `<path d="M0 0V${HEIGHT}H${WIDTH}" fill="none" stroke="black"/>`,
    `<g clip-path="url(#panel)">`,
    ...lines.map((line) => `<path d="${path(line.points)}" ${stroke(line)}/>`),
    "</g>",
  ];
}

function stroke({ colour, dashed }: Line): string {
  return `fill="none" stroke="${colour}" stroke-width="2"${dashed ? ' stroke-dasharray="5 4"' : ""}`;
}

function ticks({ from, to, step }: Axis): number[] {
  return Array.from({ length: Math.round((to - from) / step) + 1 }, (_, index) => round(from + index * step));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
