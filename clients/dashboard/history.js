// What the charts show: one point a second, made of two looks at the daemon's counters, for the last five minutes.

/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {"sessions" | "sends" | "deliveries" | "stored" | "commit" | "commitMost" | "waiting"} Figure */
/** @typedef {{ atMs: number } & Partial<Record<Figure, number>>} Point a figure that is not known is left out */

export const SPAN_MS = 5 * 60_000;
/** A longer silence than this is a gap in the lines and not a slope. */
const GAP_MS = 4000;

export class History {
  /** @type {Point[]} */
  points = [];
  /** @type {Stats | null} */
  latest = null;

  /** @param {Stats} stats */
  add(stats) {
    const atMs = stats.at_ms ?? Date.now();
    const before = this.latest;
    if (before !== null && atMs <= (before.at_ms ?? 0)) return;
    const isNew = before === null || before.started_ms !== stats.started_ms || atMs - (before.at_ms ?? 0) > GAP_MS;
    if (before !== null && isNew) this.points.push({ atMs: atMs - 1 });
    this.points.push({ atMs, sessions: stats.sessions, waiting: stats.queues.messages, ...commits(stats), ...(isNew ? {} : slopes(before, stats)) });
    const oldest = this.points.findIndex((point) => point.atMs >= atMs - SPAN_MS);
    this.points.splice(0, oldest);
    this.latest = { ...stats, at_ms: atMs };
  }
}

/**
 * @param {Stats} before
 * @param {Stats} now
 * @returns {Partial<Record<Figure, number>>}
 */
function slopes(before, now) {
  const seconds = ((now.at_ms ?? 0) - (before.at_ms ?? 0)) / 1000;
  /** @param {string} counter */
  const rate = (counter) => Math.max(0, (now.counters[counter] ?? 0) - (before.counters[counter] ?? 0)) / seconds;
  return { sends: rate("sends"), deliveries: rate("deliveries"), stored: rate("accepted_stored") };
}

/**
 * How long commits took in the last ten seconds: on the mean, and 99 of a hundred at most.
 *
 * @param {Stats} stats
 */
function commits({ rates }) {
  const took = rates?.commit_seconds ?? null;
  return took === null ? {} : { commit: took.mean, commitMost: took.p99 };
}
