// How figures are written. Everywhere: a dash for what is not known (yet).

const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const NONE = "–";

/** A count, as 1,234,567. */
export function count(value) {
  return value == null ? NONE : whole.format(value);
}

/** Something per second: to a tenth below ten. */
export function rate(value) {
  if (value == null) return NONE;
  if (value > 0 && value < 0.05) return "< 0.1";
  return value > 0 && value < 9.95 ? tenths.format(value) : whole.format(Math.round(value));
}

/** A duration in seconds, in its two largest units; what is not whole to a tenth below ten. */
export function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 9.95 && !Number.isInteger(seconds)) return `${tenths.format(Math.max(0, seconds))} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${pad(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return `${whole.format(Math.floor(s / 86400))} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** A feature's value, to five significant digits. */
export function feature(value) {
  if (value == null) return NONE;
  const size = Number(Math.abs(value).toPrecision(5)); // rounded first: 9.99999 has as many decimals as 10
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(4).replaceAll("-", "−").replace("+", "");
  const decimals = size < 1 ? 5 : 4 - Math.floor(Math.log10(size));
  return value.toFixed(decimals).replace("-", "−");
}

/** A time in ms since the epoch, as date and time of day in UTC. */
export function instant(milliseconds) {
  const time = new Date(milliseconds);
  if (Number.isNaN(time.getTime())) return { date: "", time: NONE, iso: "" }; // beyond what a Date holds
  const iso = time.toISOString();
  const [date, rest] = iso.split("T");
  return { date, time: rest.slice(0, -1), iso };
}

/** Time of day on the reader's clock. */
export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

/** Whole numbers in order, as 0–4, 7, 9–12; what exceeds some ranges is left out. */
export function ranges(numbers, most = 4) {
  const found = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  const written = found.slice(0, most).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return written.join(", ") + (found.length > most ? ", …" : "");
}

function pad(number) {
  return String(number).padStart(2, "0");
}
