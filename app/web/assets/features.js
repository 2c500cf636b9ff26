// The table of the latest feature records, newest on top.

import { count, feature, instant } from "./format.js";
import { head, keepChildren, make } from "./dom.js";

const FEATURES = [
  ["RMS", "rms"],
  ["Mobility", "hjorth_mobility"],
  ["Complexity", "hjorth_complexity"],
  ["Activity", "hjorth_activity"],
];

export class FeaturesTable {
  constructor(table, none) {
    this.none = none; // shown instead of rows
    const labels = ["Sensor", "Seq", "Time", ...FEATURES.map(([label]) => label), "Gap", "Tier", "Pipeline"];
    table.append(head(labels, [0, 8, 9]));
    this.body = table.appendChild(make("tbody", { role: "rowgroup" }));
  }

  render(latest) {
    this.none.hidden = latest.length > 0;
    keepChildren(this.body, latest, ({ key }) => key, ({ record }) => featureRow(record), () => {});
  }
}

function featureRow(record) {
  const { date, time, iso } = instant(record.timestamp);
  const cell = (kind, ...content) => make("td", { role: "cell", class: kind }, ...content);
  return make(
    "tr",
    { role: "row" },
    make("th", { role: "rowheader", scope: "row", class: "sensor" }, record.sensorId),
    cell("number", count(record.seq)),
    cell("number", make("time", { datetime: iso }, make("span", { class: "date" }, `${date} `), time)),
    ...FEATURES.map(([, name]) => cell("number", feature(record[name]))),
    cell(record.gap ? "number warn" : "number", count(record.gap)),
    cell("tier", record.tier),
    cell("pipeline", record.pipeline),
  );
}
