// The daemon itself: its configuration, every counter, and how to stop it in order.

import { api } from "./api.js";
import { confirm } from "./confirm.js";
import { action, Notice, refresh } from "./context.js";
import { h, setText } from "/shared/dom.js";
import { count } from "./format.js";

/** Configuration changes only with a restart. */
const RELOAD_MS = 60_000;

/**
 * @param {import("./context.js").Context} context
 * @returns {import("./context.js").Page}
 */
export function daemon(context) {
  const notice = new Notice();
  const sections = h("div", { class: "config" });
  const counters = h("dl", { class: "card pairs counters" });
  const values = /** @type {Map<string, HTMLElement>} */ (new Map());
  const drain = action("Drain …", { class: "danger" }, notice, async () => {
    const answer = await confirm({
      title: "Drain the daemon?",
      says: [
        "It takes no new connections and messages, answers and commits all that was taken, tells its clients when to come back, and ends. Nothing is lost.",
        "It does not start again by itself, unless something on its machine restarts it.",
      ],
      verb: "Drain and stop",
      action: () => api.drain(),
    });
    if (answer.done) context.announce("The daemon drains.");
    await context.refreshHealth();
  });

  const loading = refresh(
    context,
    notice,
    async () => {
      const config = await api.config();
      sections.replaceChildren(...Object.entries(config).map(([name, values]) => section(name, values)));
    },
    RELOAD_MS,
  );
  const draw = () => {
    for (const [name, value] of Object.entries(context.history.latest?.counters ?? {})) {
      const shown = values.get(name) ?? h("dd", { class: "number" });
      if (!values.has(name)) counters.append(h("div", {}, h("dt", { class: "mono" }, name), shown));
      values.set(name, shown);
      setText(shown, count(value));
    }
  };
  const offEvent = context.live.onEvent(({ type }) => type === "stats" && draw());
  draw();
  const element = h(
    "div",
    {},
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Daemon"), drain),
    notice.element,
    h("h2", { class: "section-title" }, "Configuration in effect"),
    h("p", { class: "lead soft" }, "Defaults, file and environment together. Secrets are in files of their own and are not shown."),
    sections,
    h("h2", { class: "section-title" }, "Counters and levels since the start"),
    counters,
  );
  return {
    title: "Daemon",
    element,
    close() {
      offEvent();
      loading.close();
    },
  };
}

/**
 * @param {string} name
 * @param {Record<string, unknown>} values
 */
function section(name, values) {
  const rows = Object.entries(values).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", { class: "mono" }, written(value))));
  return h("section", { class: "card", "aria-label": name }, h("h3", { class: "mono" }, `[${name}]`), h("dl", { class: "pairs" }, ...rows));
}

/** @param {unknown} value */
function written(value) {
  if (typeof value === "string") return value === "" ? "(none)" : value;
  if (Array.isArray(value)) return value.length === 0 ? "(none)" : value.join(", ");
  return JSON.stringify(value);
}
