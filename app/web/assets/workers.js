// The table of workers: a body for each, a row for each of its tiers.

import { count, duration, ranges, rate } from "./format.js";
import { head, keepChildren, make, setAttribute, setText } from "./dom.js";

// Of what the function keeps to itself its poller knows nothing.
const ofWorkers = (text) => (item) => (item.tier.function ? "–" : text(item));

const TIER_COLUMNS = [
  { label: "Partitions", text: ({ tier }) => count(tier.partitions.length), note: ({ tier }) => ranges(tier.partitions) },
  { label: "Sensors", text: ofWorkers(({ tier }) => count(tier.sensors)) },
  {
    label: "Blocks/s",
    text: ({ known, name }) => rate(known.rate(name, "blocks")),
    note: ({ tier }) => (tier.function ? invocations(tier.function) : ""),
  },
  { label: "Samples/s", text: ofWorkers(({ known, name }) => rate(known.rate(name, "samples"))) },
  { label: "Features", text: ofWorkers(({ tier }) => count(tier.features)) },
  { label: "Lag", text: ({ tier }) => count(tier.lag) },
  { label: "Checkpoint", text: ({ tier }) => (tier.checkpoint_age == null ? "–" : `${duration(tier.checkpoint_age)} ago`) },
  {
    label: "Mirror",
    text: ({ tier: { mirror } }) => (mirror.up === null ? "–" : mirror.up ? "up" : "down"),
    note: ({ tier: { mirror } }) => (mirror.pending ? `${count(mirror.pending)} waiting` : ""),
    mood: ({ tier: { mirror } }) => (mirror.up === false ? "bad" : ""),
  },
  { label: "Gaps", text: ({ tier }) => count(tier.gaps), mood: ({ tier }) => (tier.gaps ? "warn" : "none") },
  { label: "Late", text: ({ tier }) => count(tier.late), mood: ({ tier }) => (tier.late ? "warn" : "none") },
  { label: "Replayed", text: ({ tier }) => count(tier.replayed), mood: ({ tier }) => (tier.replayed ? "" : "none") },
  {
    label: "Dead letters",
    class: "reasons",
    text: ({ tier }) => deadLetters(tier.dead_letters),
    mood: ({ tier }) => (Object.keys(tier.dead_letters).length ? "warn" : "none"),
  },
];

function deadLetters(reasons) {
  const sorted = Object.entries(reasons).sort(([, one], [, other]) => other - one);
  return sorted.map(([reason, number]) => `${reason}\u00a0${count(number)}`).join(", ") || "0";
}

function invocations(called) {
  const slowest = called.p99 == null ? "" : `, p99 ${Math.round(called.p99 * 1000)} ms`;
  return `${count(called.invocations)} invocations, ${count(called.errors)} failed${slowest}`;
}

const WORDS = {
  ready: () => "ready",
  rebalancing: () => "rebalancing",
  recovering: () => "recovering its state",
  silent: (seconds) => `silent for ${duration(Math.floor(seconds))}`,
  gone: (seconds) => `gone, last heard ${duration(Math.floor(seconds))} ago`,
  unseen: () => "cannot be seen",
};

export class WorkersTable {
  constructor(table) {
    this.table = table;
    const labels = ["Worker", "Tier", ...TIER_COLUMNS.map((column) => column.label)];
    table.append(head(labels, [0, 1, labels.length - 1]));
  }

  render(history, at) {
    const workers = [...history.workers].sort(([one], [other]) => (one < other ? -1 : 1));
    const create = () => {
      const body = make("tbody", { role: "rowgroup" });
      body.workerCell = workerCell();
      return body;
    };
    keepChildren(this.table, workers, ([instance]) => instance, create, (body, [, known]) => {
      this.#renderWorker(body, known, history, at);
    });
  }

  #renderWorker(body, known, history, at) {
    const state = history.state(known);
    setAttribute(body, "data-state", state);
    const tiers = Object.entries(known.status.tiers);
    keepChildren(
      body,
      tiers,
      ([name]) => name,
      () => make("tr", { role: "row" }, make("th", { role: "rowheader", scope: "row", class: "tier" }), ...cells()),
      (row, [name, tier]) => {
        setText(row.querySelector(".tier"), name);
        updateCells(row, { tier, name, known });
      },
    );
    const cell = body.workerCell;
    if (cell.parentElement !== body.firstElementChild) body.firstElementChild?.prepend(cell);
    setAttribute(cell, "rowspan", String(tiers.length));
    const [name, word, note] = cell.children;
    const { instance, url, started, now, group } = known.status;
    setText(name, instance);
    // A link only to another worker's pages; its address comes from Redis, so nothing but http is taken.
    if (instance !== history.answering && /^https?:\/\//.test(url)) setAttribute(name, "href", url);
    else name.removeAttribute("href");
    setText(word, WORDS[state](at - known.changed));
    setAttribute(word, "data-state", state);
    setText(note, `up ${duration(now - started)} · group ${group}`);
  }
}

function workerCell() {
  return make(
    "th",
    { role: "rowheader", scope: "rowgroup", class: "worker" },
    make("a", { class: "name" }),
    make("span", { class: "state" }),
    make("span", { class: "note" }),
  );
}

function cells() {
  return TIER_COLUMNS.map((column) => {
    const cell = make("td", { role: "cell", "data-label": column.label, class: column.class ?? "number" });
    cell.append(make("span", { class: "value" }));
    if (column.note) cell.append(make("span", { class: "note" }));
    return cell;
  });
}

function updateCells(row, item) {
  for (const [number, column] of TIER_COLUMNS.entries()) {
    const cell = row.querySelectorAll("td")[number];
    setText(cell.firstElementChild, column.text(item));
    if (column.note) setText(cell.lastElementChild, column.note(item));
    if (column.mood) setAttribute(cell, "data-mood", column.mood(item));
  }
}
