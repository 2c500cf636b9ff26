// A small line of one figure over the last minutes.

import { make, setAttribute } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 36;
const SHORTEST = 60; // s; the line grows from this to its whole length
const LONGEST_STEP = 5; // s; what lies further apart was not looked at in between

export class Sparkline {
  /** @param {number} seconds how far back it goes at most */
  constructor(seconds) {
    this.seconds = seconds;
    this.element = document.createElementNS(SVG, "svg");
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("aria-hidden", "true");
    this.area = this.element.appendChild(document.createElementNS(SVG, "path"));
    this.area.setAttribute("class", "area");
    this.line = this.element.appendChild(document.createElementNS(SVG, "path"));
    this.line.setAttribute("class", "line");
  }

  /**
   * Draw points [time in s, value] in order of time.
   *
   * @param {number} now time of the right edge, s
   * @returns {number} the largest value
   */
  draw(points, now) {
    const first = points[0]?.[0] ?? now;
    const span = Math.min(this.seconds, Math.max(SHORTEST, now - first));
    const peak = points.reduce((most, [, value]) => Math.max(most, value), 0);
    let line = "";
    let area = "";
    for (const stretch of stretches(points)) {
      const places = stretch.map(([time, value]) => {
        const x = WIDTH * (1 - (now - time) / span);
        const y = HEIGHT - 1 - (peak > 0 ? (value / peak) * (HEIGHT - 3) : 0);
        return `${x.toFixed(1)},${y.toFixed(1)}`;
      });
      line += `M${places.join("L")}`;
      const [start, end] = [places[0], places.at(-1)].map((place) => place.split(",")[0]);
      area += `M${start},${HEIGHT}L${places.join("L")}L${end},${HEIGHT}Z`;
    }
    setAttribute(this.line, "d", line);
    setAttribute(this.area, "d", area);
    return peak;
  }
}

function stretches(points) {
  const found = [];
  let before = -Infinity;
  for (const point of points) {
    if (point[0] - before > LONGEST_STEP) found.push([]);
    found.at(-1).push(point);
    before = point[0];
  }
  return found;
}

/** A tile: a name, a figure, its line, and a word below. */
export class Tile {
  constructor(name, seconds) {
    this.figure = make("span", { class: "figure" });
    this.note = make("span", { class: "note" });
    this.sparkline = new Sparkline(seconds);
    this.element = make(
      "div",
      { class: "tile" },
      make("dt", {}, name),
      make("dd", {}, this.figure, this.sparkline.element, this.note),
    );
  }
}
