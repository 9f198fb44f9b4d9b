// Figures as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

/** @param {number} value */
export const count = (value) => whole.format(value);

/** `12,345` as it is up to five digits, `1.2M` beyond. @param {number} value */
export const brief = (value) => (Math.abs(value) < 100_000 ? whole.format(value) : short.format(value));

/** A count with its noun: `1 message`, `2 messages`. @param {number} value @param {string} noun */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Something a second. @param {number} value */
export const rate = (value) => (value > 0 && value < 10 && !Number.isInteger(value) ? value.toFixed(1) : brief(value));

/** @param {number} value in bytes */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? whole.format(value) : value.toFixed(1)} ${units[unit]}`;
}

/** @param {number} seconds */
export function latency(seconds) {
  if (seconds < 0.001) return `${whole.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 2 : 1)} ms`;
  return `${seconds.toFixed(2)} s`;
}

/** A length of time in its two greatest units. @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount !== 0);
  if (first === -1) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount !== 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

/** @param {number} ms since the epoch */
export function ago(ms) {
  const age = Date.now() - ms;
  return age < 2000 ? "just now" : `${duration(age)} ago`;
}

/** @param {number} ms since the epoch */
export function ahead(ms) {
  const left = ms - Date.now();
  return left <= 0 ? "now" : `in ${duration(left)}`;
}

/** @param {number} ms since the epoch */
export const timeOfDay = (ms) => clock.format(ms);

/** @param {number} ms since the epoch */
export const moment = (ms) => day.format(ms);

/** @param {number} share from 0 to 1 */
export const percent = (share) => `${(share * 100).toFixed(share > 0.995 && share < 1 ? 2 : 1)} %`;
