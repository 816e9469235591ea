/**
 * Draws the figures of a run of `bench:http` as SVG, for light and for dark pages: requests per second of each server
 * relative to the first one, for each file size, one picture for each congestion control.
 *
 *   deno task bench:plot FILE.json DIR [SERVER,SERVER…]
 */
import * as echarts from "echarts";
import { join } from "@std/path";
import { median } from "./numbers.ts";

/** The part in use of what `bench:http --json` writes. */
interface Report {
  readonly cells: readonly Cell[];
}

interface Cell {
  readonly link: string;
  readonly congestion: string;
  /** The file size and the number of connections: "4 KiB x 16". */
  readonly label: string;
  readonly servers: Readonly<Record<string, { readonly requestsPerSecond: readonly number[] }>>;
}

/** Pixels. */
const WIDTH = 860;
const HEIGHT = 420;

/** One for each server; all are visible on white and on black. */
const COLOURS = [
  "#8c959f",
  "#1a7f37",
  "#54aeff",
  "#bf8700",
  "#cf222e",
  "#8250df",
  "#2da44e",
  "#e16f24",
  "#bf3989",
];

const THEMES = {
  light: { text: "#1f2328", line: "#d1d9e0" },
  dark: { text: "#f0f6fc", line: "#3d444d" },
} as const;

/** The median over the rounds of a server's ratio to another one in the same round. */
function ratio({ servers }: Cell, name: string, base: string): number {
  const bases = servers[base].requestsPerSecond;
  return median(servers[name].requestsPerSecond.map((rate, i) => rate / bases[i]));
}

function draw(
  cells: readonly Cell[],
  names: readonly string[],
  { text, line }: typeof THEMES[keyof typeof THEMES],
): string {
  const [{ congestion, label }] = cells;
  const connections = label.split(" x ")[1];
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: HEIGHT });
  chart.setOption({
    animation: false,
    color: COLOURS,
    textStyle: { color: text, fontFamily: "sans-serif" },
    title: {
      text: `Requests per second relative to ${names[0]} (${congestion}, ${connections} connections)`,
      textStyle: { color: text, fontSize: 15 },
    },
    legend: { top: 32, itemGap: 28, textStyle: { color: text } },
    grid: { left: 48, right: 16, top: 96, bottom: 32 },
    xAxis: {
      type: "category",
      data: cells.map(({ label }) => label.split(" x ")[0]),
      axisLabel: { color: text, interval: 0 },
      axisLine: { lineStyle: { color: line } },
    },
    yAxis: { type: "value", axisLabel: { color: text }, splitLine: { lineStyle: { color: line } } },
    series: names.map((name) => ({
      name,
      type: "bar",
      data: cells.map((cell) => Number(ratio(cell, name, names[0]).toFixed(2))),
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

const [file, directory, wanted] = Deno.args;
if (!file || !directory) throw new TypeError("usage: bench:plot FILE.json DIR [SERVER,SERVER…]");
const { cells } = JSON.parse(Deno.readTextFileSync(file)) as Report;
const names = wanted?.split(",") ?? Object.keys(cells[0].servers);
for (
  const [key, group] of Object.entries(Object.groupBy(cells, (cell) => `${cell.link}-${cell.congestion}`))
) {
  for (const [theme, colours] of Object.entries(THEMES)) {
    const path = join(directory, `http-${key}-${theme}.svg`);
    Deno.writeTextFileSync(path, draw(group!, names, colours));
    console.log(path);
  }
}
