// The last hour on the overview, drawn by uPlot in the colours of the page.
"use strict";

const charts = document.getElementById("charts");
const drawn = new Map();
const decimals = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
const long = new URLSearchParams(location.search).get("hours") > 24;
const day = long ? { month: "short", day: "numeric" } : {};
const hours = new Intl.DateTimeFormat(language, { ...day, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A value with its unit, as the server writes it.
function withUnit(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit !== "ms") return decimals.format(value);
  return value < 1000 ? `${Math.round(value)}\u202fms` : `${decimals.format(value / 1000)}\u202fs`;
}

function options(element) {
  const unit = element.dataset.unit;
  const lines = element.dataset.lines.trim().split(" ").map((line) => line.split(":"));
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  return {
    lines: lines.map(([column]) => column),
    plot: {
      width: element.clientWidth,
      height: element.clientHeight,
      padding: [10, 22, 0, 0],
      cursor: { y: false, points: { size: 6 } },
      legend: { show: false },
      scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, unit === "ms" ? 10 : 0.1) * 1.1] } },
      axes: [
        { ...axis, size: 26, values: (_, ticks) => ticks.map((at) => hours.format(new Date(at * 1000))), space: long ? 120 : 70 },
        { ...axis, values: (_, ticks) => ticks.map((value) => withUnit(value, unit)), size: 64, space: 36 },
      ],
      series: [
        {},
        ...lines.map(([, name]) => ({ stroke: colour(name), width: 1.5, points: { show: false }, spanGaps: false })),
      ],
      hooks: { setCursor: [(plot) => tellCursor(plot, element)] },
    },
  };
}

// What the pointer is over is said in the title of the chart.
function tellCursor(plot, element) {
  const at = plot.cursor.idx;
  const heading = element.closest("section").querySelector("h2");
  if (at === null || at === undefined) {
    heading.textContent = element.dataset.name;
    return;
  }
  const values = plot.data.slice(1).map((row) => withUnit(row[at], element.dataset.unit));
  heading.textContent = `${hours.format(new Date(plot.data[0][at] * 1000))}: ${values.join(" · ")}`;
}

// Where there is nothing to draw from, each chart says why.
function tellAway(why) {
  for (const plot of drawn.values()) plot.destroy();
  drawn.clear();
  for (const element of charts.querySelectorAll(".chart")) {
    element.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: why }));
    element.setAttribute("aria-label", `${element.dataset.name}: ${why}`);
  }
}

function draw(history) {
  if (history.away) return tellAway(history.away);
  for (const note of charts.querySelectorAll(".chart > .empty")) note.remove();
  for (const element of charts.querySelectorAll(".chart")) {
    const { lines, plot } = options(element);
    const data = [history.at, ...lines.map((column) => history[column])];
    const last = lines.map((column) => withUnit(history[column].at(-1), element.dataset.unit));
    element.setAttribute("aria-label", `${element.dataset.name}: ${last.join(", ")}`);
    const known = drawn.get(element);
    if (known) known.setData(data);
    else drawn.set(element, new uPlot(plot, data, element));
  }
}

async function look() {
  if (document.hidden) return;
  try {
    const answer = await fetch(charts.dataset.history, { headers: { "HX-Request": "true" } });
    if (answer.ok) draw(await answer.json());
  } catch {
    // The overview above says that the server is away.
  }
}

function again() {
  for (const plot of drawn.values()) plot.destroy();
  drawn.clear();
  look();
}

document.addEventListener("DOMContentLoaded", () => {
  look();
  setInterval(look, 60000);
  document.addEventListener("visibilitychange", look);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => {
    for (const [element, plot] of drawn) {
      if (plot.width !== element.clientWidth) plot.setSize({ width: element.clientWidth, height: element.clientHeight });
    }
  }).observe(charts);
});
