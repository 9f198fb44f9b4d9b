// The first page: the five figures that tell how a router is, the longest queues, and what happened lately.

import { api } from "./api.js";
import { Chart } from "./chart.js";
import { Notice, refresh, userLink } from "./context.js";
import { h, setText } from "/shared/dom.js";
import { eventList } from "./events.js";
import { ago, brief, bytes, count, counted, duration, latency, percent, rate } from "./format.js";
import { Table } from "./table.js";

/** @typedef {import("./context.js").Context} Context */
/** @typedef {import("./api.js").Stats} Stats */

const QUEUES = 5;
const EVENTS = 8;

/**
 * @param {Context} context
 * @returns {import("./context.js").Page}
 */
export function overview(context) {
  const notice = new Notice();
  const charts = figures();
  const facts = new Facts();
  const queues = new Table({
    label: "Longest queues",
    empty: "Nothing waits: everybody has everything.",
    key: (/** @type {import("./api.js").Queue} */ queue) => queue.user,
    columns: [
      { title: "User", kind: "wide", node: ({ user }) => userLink(user) },
      { title: "Messages", kind: "number", text: ({ messages }) => count(messages) },
      { title: "Oldest", kind: "number", text: ({ oldest_ms }) => (oldest_ms ? ago(oldest_ms) : "–") },
    ],
  });
  const events = eventList(context.feed, EVENTS);

  const element = h(
    "div",
    {},
    h("h1", { tabindex: "-1" }, "Overview"),
    notice.element,
    h("div", { class: "charts" }, ...charts.map(({ chart }) => chart.element)),
    facts.element,
    h(
      "div",
      { class: "columns" },
      h("section", { class: "card" }, head("Longest queues", "#/queues", "All queues"), queues.element),
      h("section", { class: "card" }, head("Just now", "#/events", "All events"), events.element),
    ),
  );

  const draw = () => {
    const stats = context.history.latest;
    if (stats === null) return;
    for (const { chart, note } of charts) chart.update(context.history.points, stats.at_ms ?? Date.now(), note(stats));
    facts.update(stats, context.health());
  };
  const offEvent = context.live.onEvent(({ type }) => type === "stats" && draw());
  const loading = refresh(context, notice, async () => {
    const answer = await api.queues({ limit: QUEUES });
    queues.update(answer.queues);
  });
  draw();
  return {
    title: "Overview",
    element,
    close() {
      offEvent();
      loading.close();
      events.close();
    },
  };
}

/**
 * @param {string} title
 * @param {string} href
 * @param {string} link
 */
function head(title, href, link) {
  return h("div", { class: "card-head" }, h("h2", {}, title), h("a", { href }, link));
}

/** @returns {{ chart: Chart, note: (stats: Stats) => string }[]} */
function figures() {
  return [
    {
      chart: new Chart({
        title: "Messages a second",
        lines: [
          { figure: "sends", name: "taken in" },
          { figure: "deliveries", name: "delivered" },
        ],
        format: rate,
      }),
      note: ({ rates }) => (rates === null ? "" : `${rate(rates.sends_per_second)} a second over the last ten`),
    },
    {
      chart: new Chart({ title: "Sessions", lines: [{ figure: "sessions", name: "sessions" }], format: brief }),
      note: (stats) => `${counted(stats.users_online, "user")} online, ${counted(stats.connections, "connection")}`,
    },
    {
      chart: new Chart({ title: "Waiting on disk", lines: [{ figure: "waiting", name: "messages" }], format: brief }),
      note: ({ queues }) => `${bytes(queues.bytes)} for users who are away`,
    },
    {
      chart: new Chart({ title: "Put on disk a second", lines: [{ figure: "stored", name: "messages" }], format: rate }),
      note: ({ elided_share: share }) => (share === null ? "" : `${percent(share)} of all never touched the disk`),
    },
    {
      chart: new Chart({
        title: "Commit latency",
        lines: [
          { figure: "commit", name: "mean" },
          { figure: "commitMost", name: "99 % within" },
        ],
        format: latency,
        atLeast: 0.0001,
        isSparse: true,
      }),
      note: ({ commit_seconds: commit }) => (commit === null ? "" : `99 % within ${latency(commit.p99)} since the start; the lines are of ten seconds`),
    },
  ];
}

/** What is no line: a row of facts about the daemon. */
class Facts {
  #values = /** @type {Map<string, HTMLElement>} */ (new Map());
  element = h("dl", { class: "card facts", "aria-label": "The daemon" });

  /**
   * @param {Stats} stats
   * @param {import("./api.js").Health | null} health
   */
  update(stats, health) {
    this.#set("Running for", duration(stats.uptime_ms));
    this.#set("Rejected a second", stats.rates === null ? "–" : rate(stats.rates.rejected_per_second));
    this.#set("Being decided", counted(stats.pending_appends, "message"));
    this.#set("Users in memory", count(stats.users_loaded));
    this.#set("Changes a commit", stats.commit_changes === null ? "–" : stats.commit_changes.mean.toFixed(1));
    this.#set("Free on the disk", health === null ? "–" : bytes(health.disk_free_bytes));
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #set(name, text) {
    let value = this.#values.get(name);
    if (value === undefined) {
      value = h("dd");
      this.#values.set(name, value);
      this.element.append(h("div", {}, h("dt", {}, name), value));
    }
    setText(value, text);
  }
}
