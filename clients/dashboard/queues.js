// Who has messages waiting on disk.

import { api } from "./api.js";
import { Notice, refresh, userLink } from "./context.js";
import { h } from "/shared/dom.js";
import { ago, bytes, count } from "./format.js";
import { Table } from "./table.js";

const SORTS = /** @type {const} */ ([
  ["depth", "Messages"],
  ["bytes", "Bytes"],
  ["age", "Age"],
]);
const LIMIT = 100;

/**
 * @param {import("./context.js").Context} context
 * @param {import("./context.js").Route} route
 * @returns {import("./context.js").Page}
 */
export function queues(context, { query }) {
  const sort = SORTS.find(([name]) => name === query.get("sort"))?.[0] ?? "depth";
  const notice = new Notice();
  const incomplete = h("p", { class: "notice quiet", hidden: true }, "The daemon did not get through all queues in its ten seconds: these are the greatest of those that it looked at.");
  const table = new Table({
    label: "Queues",
    empty: "Nothing waits: everybody has everything.",
    key: (/** @type {import("./api.js").Queue} */ queue) => queue.user,
    columns: [
      { title: "User", kind: "wide", node: ({ user }) => userLink(user) },
      { title: "Messages", kind: "number", text: ({ messages }) => count(messages) },
      { title: "Bytes", kind: "number", text: (queue) => bytes(queue.bytes) },
      { title: "Oldest", kind: "number", text: ({ oldest_ms }) => (oldest_ms ? ago(oldest_ms) : "–") },
    ],
  });
  const loading = refresh(context, notice, async () => {
    const answer = await api.queues({ sort, limit: LIMIT });
    table.update(answer.queues);
    incomplete.hidden = answer.complete;
  });
  const tabs = SORTS.map(([name, title]) =>
    h("a", { href: `#/queues?sort=${name}`, "aria-current": name === sort ? "true" : null }, title),
  );
  const element = h(
    "div",
    {},
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Queues"), h("div", { class: "segments", role: "group", "aria-label": "Greatest first by" }, ...tabs)),
    h("p", { class: "lead soft" }, `Users for whom messages wait on disk, the greatest ${LIMIT} first.`),
    notice.element,
    incomplete,
    h("section", { class: "card", "aria-label": "Queues" }, table.element),
  );
  return { title: "Queues", element, close: loading.close };
}
