// The list of users, and the way to one of them by name.

import { api } from "./api.js";
import { Notice, Pager, refresh, stateMark, userAddress, userLink } from "./context.js";
import { h } from "/shared/dom.js";
import { ago } from "./format.js";
import { Table } from "./table.js";

const LIMIT = 50;

/**
 * @param {import("./context.js").Context} context
 * @param {import("./context.js").Route} route
 * @returns {import("./context.js").Page}
 */
export function users(context, { query }) {
  const isOnlineOnly = query.get("online") === "true";
  const notice = new Notice();
  const table = new Table({
    label: "Users",
    empty: isOnlineOnly ? "Nobody is online." : "Nobody has registered a device yet.",
    key: (/** @type {import("./api.js").Presence} */ user) => user.user,
    columns: [
      { title: "User", kind: "wide", node: ({ user }) => userLink(user) },
      {
        title: "State",
        version: ({ state }) => state,
        node: ({ state }) => h("span", { class: "state" }, stateMark(state), state),
      },
      { title: "Says", kind: "wide", text: ({ text }) => text ?? "" },
      { title: "Last seen", kind: "number", text: ({ last_seen_ms }) => (last_seen_ms ? ago(last_seen_ms) : "") },
    ],
  });
  const pager = new Pager(() => void loading.now());
  const loading = refresh(context, notice, async () => {
    const answer = await api.users({ online: isOnlineOnly ? true : undefined, limit: LIMIT, after: pager.after });
    table.update(answer.users);
    pager.told(answer.next);
  });
  const element = h(
    "div",
    {},
    h(
      "div",
      { class: "page-head" },
      h("h1", { tabindex: "-1" }, "Users"),
      h(
        "div",
        { class: "segments", role: "group", "aria-label": "Which users" },
        h("a", { href: "#/users", "aria-current": isOnlineOnly ? null : "true" }, "All"),
        h("a", { href: "#/users?online=true", "aria-current": isOnlineOnly ? "true" : null }, "Online"),
      ),
    ),
    finder(),
    notice.element,
    h("section", { class: "card", "aria-label": "Users" }, table.element, pager.element),
  );
  return { title: "Users", element, close: loading.close };
}

function finder() {
  const name = h("input", { type: "search", id: "find-user", autocomplete: "off", spellcheck: "false", required: true });
  return h(
    "form",
    {
      class: "finder",
      role: "search",
      onsubmit: (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        if (name.value !== "") location.hash = userAddress(name.value);
      },
    },
    h("label", { for: "find-user" }, "Name of a user"),
    h("div", { class: "finder-row" }, name, h("button", { type: "submit" }, "Show")),
  );
}
