// Live sessions, of all users or of one.

import { api } from "./api.js";
import { confirm } from "./confirm.js";
import { action, Notice, Pager, refresh, stateMark, userLink } from "./context.js";
import { h } from "/shared/dom.js";
import { ago, count } from "./format.js";
import { Table } from "./table.js";

/** @typedef {import("./api.js").Session} Session */

const LIMIT = 50;

/**
 * @param {import("./context.js").Context} context
 * @returns {import("./context.js").Page}
 */
export function sessions(context) {
  const notice = new Notice();
  const table = sessionTable(context, notice, () => loading.now(), true);
  const pager = new Pager(() => void loading.now());
  const loading = refresh(context, notice, async () => {
    const answer = await api.sessions({ limit: LIMIT, after: pager.after });
    table.update(answer.sessions);
    pager.told(answer.next);
  });
  const offEvent = context.live.onEvent(({ type }) => {
    if (type === "session_opened" || type === "session_closed") loading.soon();
  });
  const element = h(
    "div",
    {},
    h("h1", { tabindex: "-1" }, "Sessions"),
    h("p", { class: "lead soft" }, "Live connections of all users, in the order in which they began."),
    notice.element,
    h("section", { class: "card", "aria-label": "Sessions" }, table.element, pager.element),
  );
  return {
    title: "Sessions",
    element,
    close() {
      offEvent();
      loading.close();
    },
  };
}

/**
 * @param {import("./context.js").Context} context
 * @param {Notice} notice
 * @param {() => Promise<void>} reload
 * @param {boolean} isOfAll with a column for the user
 */
export function sessionTable(context, notice, reload, isOfAll) {
  /** @param {Session} session */
  const kick = ({ session, user, device }) =>
    action("Close …", { class: "small danger", label: `Close the session of ${user} on ${device}` }, notice, async () => {
      const answer = await confirm({
        title: `Close the session of ${user} on “${device}”?`,
        says: ["The client is told that an operator removed it (4410), and should not come back by itself. Its device stays registered, and what it lacks stays in the queue."],
        verb: "Close the session",
        action: () => api.kick(session),
      });
      if (answer.done) context.announce(`Closed the session of ${user} on ${device}.`);
      if (answer.done) await reload();
    });
  /** @type {import("./table.js").Column<Session>[]} */
  const ofAll = isOfAll ? [{ title: "User", kind: "wide", node: ({ user }) => userLink(user) }] : [];
  return new Table({
    label: "Sessions",
    empty: isOfAll ? "Nobody is connected." : "No session is open.",
    key: (/** @type {Session} */ { session }) => session,
    columns: [
      ...ofAll,
      { title: "Device", kind: "wide", node: ({ device }) => h("span", { class: "name", dir: "auto" }, device) },
      { title: "State", version: ({ state }) => state, node: ({ state }) => h("span", { class: "state" }, stateMark(state), state) },
      { title: "In flight", kind: "number", text: (session) => `${count(session.in_flight)} of ${count(session.window)}` },
      { title: "From", kind: "mono", text: ({ peer }) => peer },
      { title: "Since", kind: "number", text: ({ attached_ms }) => ago(attached_ms) },
      { title: "", kind: "actions", node: kick },
    ],
  });
}
