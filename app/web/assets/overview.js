// The overview page: asks for all workers' figures each second while somebody looks, and shows them.

import { clock, count, rate } from "./format.js";
import { make, setAttribute, setText } from "./dom.js";
import { FeaturesTable } from "./features.js";
import { History, TOTALS_SECONDS } from "./history.js";
import { Tile } from "./sparkline.js";
import { WorkersTable } from "./workers.js";

const PERIOD = 1000; // ms between questions
const PATIENCE = 3000; // ms until an answer is given up

const element = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;

const history = new History();
const workersTable = new WorkersTable(element("workers"));
const featuresTable = new FeaturesTable(element("features"), element("no-features"));

const TILES = [
  ["Blocks/s", "blocks"],
  ["Samples/s", "samples"],
  ["Features/s", "features"],
  ["Lag, messages", "lag"],
].map(([name, figure]) => ({ figure, tile: new Tile(name, TOTALS_SECONDS) }));

const STANDING = ["Workers ready", "Partitions", "Sensors", "Dead letters"].map((name) => ({
  name,
  figure: make("dd"),
}));

element("totals").append(
  ...TILES.map(({ tile }) => tile.element),
  make("div", { class: "standing" }, ...STANDING.map(({ name, figure }) => make("div", {}, make("dt", {}, name), figure))),
);

const REASONS = { TimeoutError: "it takes too long", TypeError: "no connection" }; // by the names fetch gives them

let answered = null; // when the last answer came
let answeredAt = 0; // the same, s on the clock that only goes forward
let failing = null; // since when no answer comes, and why: {since, reason}
let paused = false;
let timer = null;
let asking = false;

async function ask() {
  if (asking) return;
  asking = true;
  const began = performance.now();
  try {
    const response = await fetch("v1/workers", { signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const answer = await response.json();
    answered = new Date();
    answeredAt = seconds();
    failing = null;
    history.take(answer, answeredAt);
  } catch (error) {
    failing ??= { since: new Date(), reason: REASONS[error.name] ?? error.message };
  } finally {
    asking = false;
    schedule(PERIOD - (performance.now() - began));
  }
  render();
}

function schedule(wait) {
  clearTimeout(timer);
  timer = null;
  if (!paused && document.visibilityState === "visible") timer = setTimeout(ask, Math.max(100, wait));
}

function render() {
  renderState();
  if (answered === null) return;
  // As of the last answer: where none comes, nothing is known of how the others are doing since.
  workersTable.render(history, answeredAt);
  featuresTable.render(history.latest);
  renderTotals(answeredAt);
}

function renderState() {
  const state = paused ? "paused" : failing ? "failing" : answered ? "live" : "waiting";
  const words = {
    paused: "paused",
    failing: "no answer",
    live: answered && `live, ${clock(answered)}`,
    waiting: "connecting",
  };
  setText(element("connection"), words[state]);
  setAttribute(element("connection"), "data-state", state);
  setAttribute(document.body, "data-state", state);
  if (history.answering) setText(element("answering"), `seen from ${history.answering}`);
  setText(element("notice"), notice());
  setText(element("pause"), paused ? "Resume" : "Pause");
  document.title = failing && !paused ? "No answer – Continuum" : "Continuum";
}

function notice() {
  if (paused) return answered ? `Paused. The figures are from ${clock(answered)}.` : "Paused.";
  if (failing) {
    const age = answered ? ` The figures are from ${clock(answered)}.` : "";
    return `This worker has not answered since ${clock(failing.since)} (${failing.reason}).${age} Asking again every second.`;
  }
  if (!history.othersVisible) return "Redis does not answer: other workers cannot be seen, and the mirror waits.";
  return "";
}

function renderTotals(at) {
  const last = history.totals.at(-1);
  for (const { figure, tile } of TILES) {
    const isLag = figure === "lag";
    const value = isLag ? history.sum((tier) => tier.lag) : last?.[figure];
    setText(tile.figure, isLag ? count(value) : rate(value));
    const peak = tile.sparkline.draw(history.totals.map((entry) => [entry.at, entry[figure]]), last?.at ?? at);
    const total = isLag ? "" : `${count(history.sum((tier) => tier[figure]))} in all, `;
    setText(tile.note, `${total}peak ${isLag ? count(peak) : rate(peak)}`);
  }
  const known = [...history.workers.values()];
  const ready = known.filter((worker) => history.state(worker) === "ready").length;
  const figures = [
    `${count(ready)} of ${count(known.length)}`,
    count(history.sum((tier) => tier.partitions.length)),
    count(history.sum((tier) => tier.sensors)),
    count(history.sum((tier) => Object.values(tier.dead_letters).reduce((all, one) => all + one, 0))),
  ];
  STANDING.forEach(({ figure }, number) => setText(figure, figures[number]));
}

document.addEventListener("visibilitychange", () => schedule(0));
element("pause").addEventListener("click", () => {
  paused = !paused;
  schedule(0);
  render();
});
render();
schedule(0);
