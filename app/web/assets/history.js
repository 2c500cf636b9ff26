// What the page remembers from one answer to the next: rates are differences, and silence is a worker whose clock
// stands still. No two machines' clocks are compared.

const RATE_SECONDS = 5; // rates are means over this long
const SILENT_SECONDS = 5; // two heartbeats and a bit
const REMEMBERED_SECONDS = 60; // how long a worker that disappeared stays on the page
export const TOTALS_SECONDS = 300;
const LATEST = 20;

/** A worker as the page knows it. */
class Known {
  constructor(status) {
    this.started = status.started;
    this.tiers = new Map(); // name -> its counts [{now, blocks, samples, features}], oldest first
    this.changed = null; // when its clock last moved, s on ours
    this.silent = false;
    this.listed = true;
    this.status = null;
  }

  take(status, at) {
    this.silent = this.status !== null && status.now <= this.status.now && at - this.changed > SILENT_SECONDS;
    if (this.status !== null && status.now <= this.status.now) return;
    this.status = status;
    this.changed = at;
    for (const [name, { blocks, samples, features }] of Object.entries(status.tiers)) {
      if (!this.tiers.has(name)) this.tiers.set(name, []);
      const counts = this.tiers.get(name);
      counts.push({ now: status.now, blocks, samples, features });
      while (counts.length > 2 && status.now - counts[1].now >= RATE_SECONDS) counts.shift();
    }
  }

  /** Blocks, samples or features a second in a tier; null before the second heartbeat. */
  rate(tier, figure) {
    const counts = this.tiers.get(tier) ?? [];
    if (counts.length < 2) return null;
    const [first, last] = [counts[0], counts.at(-1)];
    return (last[figure] - first[figure]) / (last.now - first.now);
  }
}

export class History {
  constructor() {
    this.workers = new Map(); // instance -> Known
    this.answering = null;
    this.othersVisible = true;
    this.totals = []; // [{at, blocks, samples, features, lag}], oldest first
    this.latest = []; // newest first
    this.keys = new Set(); // of the records in the last answer
  }

  /** Take an answer of `v1/workers`, received at a time in s. */
  take(answer, at) {
    this.answering = answer.answering;
    this.othersVisible = answer.others_visible;
    for (const known of this.workers.values()) known.listed = false;
    for (const status of answer.workers) {
      let known = this.workers.get(status.instance);
      if (known === undefined || known.started !== status.started) {
        known = new Known(status);
        this.workers.set(status.instance, known);
      }
      known.listed = true;
      known.take(status, at);
    }
    this.#forget(at);
    this.#takeTotals(at);
    this.#takeLatest(answer.workers);
  }

  /** What a worker is doing, in a word. */
  state(known) {
    if (!known.listed) return this.othersVisible ? "gone" : "unseen";
    if (known.silent) return "silent";
    if (known.status.rebalancing) return "rebalancing";
    return known.status.ready ? "ready" : "recovering";
  }

  /** Sum of something over the tiers of all workers that speak. */
  sum(figure) {
    let total = 0;
    for (const known of this.workers.values()) {
      if (!known.listed || known.silent) continue;
      for (const [name, tier] of Object.entries(known.status.tiers)) total += figure(tier, name, known) ?? 0;
    }
    return total;
  }

  // A worker that left cleanly goes at once; one that fell silent before is shown for a while as gone.
  #forget(at) {
    for (const [instance, known] of this.workers) {
      if (known.listed || !this.othersVisible) continue;
      if (!known.silent || at - known.changed > REMEMBERED_SECONDS) this.workers.delete(instance);
    }
  }

  #takeTotals(at) {
    const rates = [...this.workers.values()].some((known) =>
      [...known.tiers.values()].some((counts) => counts.length > 1),
    );
    if (!rates) return;
    const entry = { at, lag: this.sum((tier) => tier.lag) };
    for (const figure of ["blocks", "samples", "features"]) {
      entry[figure] = this.sum((tier, name, known) => known.rate(name, figure));
    }
    this.totals.push(entry);
    while (at - this.totals[0].at > TOTALS_SECONDS) this.totals.shift();
  }

  #takeLatest(workers) {
    const keys = new Set();
    for (const { latest } of workers) {
      for (const record of latest) {
        const key = JSON.stringify([record.pipeline, record.sensorId, record.seq]);
        if (!this.keys.has(key) && !keys.has(key)) this.latest.unshift({ key, record });
        keys.add(key);
      }
    }
    this.keys = keys;
    this.latest.length = Math.min(this.latest.length, LATEST);
  }
}
