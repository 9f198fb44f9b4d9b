// Messages that were accepted and then not delivered: why, and the way back into the queue.

import { api } from "./api.js";
import { confirm } from "./confirm.js";
import { action, Notice, Pager, refresh, userLink } from "./context.js";
import { h } from "/shared/dom.js";
import { REASONS } from "./feed.js";
import { counted, moment } from "./format.js";
import { body } from "./messages.js";
import { Table } from "./table.js";

/** @typedef {import("./api.js").DeadLetter} DeadLetter */

const LIMIT = 25;

/**
 * @param {import("./context.js").Context} context
 * @returns {import("./context.js").Page}
 */
export function letters(context) {
  const notice = new Notice();
  const pager = new Pager(() => void loading.now());
  const table = new Table({
    label: "Dead letters",
    empty: "None: everything that was accepted was delivered, or still waits.",
    key: (/** @type {DeadLetter} */ letter) => letter.key,
    columns: [
      { title: "For", kind: "wide", node: ({ user, device }) => h("span", {}, userLink(user), device === undefined ? null : h("span", { class: "soft" }, ` on ${device}`)) },
      { title: "From", node: ({ message }) => h("span", { class: "name", dir: "auto" }, message?.from ?? "–") },
      { title: "Why", kind: "wide", text: ({ reason }) => REASONS[reason] ?? reason },
      { title: "Since", kind: "moment", text: ({ buried_ms }) => moment(buried_ms) },
      { title: "Message", kind: "wide", node: messageCell },
      { title: "", kind: "actions", node: requeue },
    ],
  });

  /** @param {DeadLetter} letter */
  function messageCell({ key, message }) {
    if (message === null) return h("span", { class: "soft" }, "could not be read");
    const after = pager.after;
    return body(message.body_bytes, () => read(key, after), message.id);
  }

  /** @param {DeadLetter} letter */
  function requeue({ key, user, seq, message }) {
    if (message === null) return h("span");
    return action("Queue again", { class: "small", label: `Queue again: message ${seq} for ${user}` }, notice, async () => {
      const done = await api.requeue(key);
      context.announce(`Queued again for ${done.user}, with seq ${done.seq}.`);
      await loading.now();
    });
  }

  const clear = action("Clear the list …", { class: "danger" }, notice, async () => {
    const answer = await confirm({
      title: "Clear all dead letters?",
      says: ["Deletes every message in this list for good, on all of its pages. There is no way back: they can then neither be read nor queued again."],
      verb: "Delete them all",
      action: () => api.clearDeadLetters(),
    });
    if (!answer.done) return;
    context.announce(`Deleted ${counted(answer.result.cleared, "dead letter")}.`);
    pager.toStart();
    await loading.now();
  });

  const loading = refresh(context, notice, async () => {
    const answer = await api.deadLetters({ limit: LIMIT, after: pager.after });
    if (answer.dead_letters.length === 0 && pager.after !== undefined) {
      pager.toStart();
      return loading.now();
    }
    table.update(answer.dead_letters);
    pager.told(answer.next);
    clear.hidden = answer.dead_letters.length === 0;
  });
  const offEvent = context.live.onEvent(({ type }) => type === "dead_letter" && loading.soon());
  const element = h(
    "div",
    {},
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Dead letters"), clear),
    h("p", { class: "lead soft" }, "Messages that were accepted and then not delivered, the oldest first. The list is bounded in size and age. “Queue again” puts one back at the end of its user's queue, for every device."),
    notice.element,
    h("section", { class: "card", "aria-label": "Dead letters" }, table.element, pager.element),
  );
  return {
    title: "Dead letters",
    element,
    close() {
      offEvent();
      loading.close();
    },
  };
}

/**
 * One letter cannot be asked for alone: its page is read once more, with bodies. Such a page may end sooner, so it is
 * followed until the letter has come.
 *
 * @param {string} key
 * @param {string | undefined} after
 */
async function read(key, after) {
  for (let pages = 0; pages <= LIMIT; pages += 1) {
    const answer = await api.deadLetters({ limit: LIMIT, after, bodies: true });
    const found = answer.dead_letters.find((letter) => letter.key === key);
    if (found !== undefined) return found.message?.body ?? "";
    if (answer.next === null) break;
    after = answer.next;
  }
  throw new Error("The letter is not in the list any more.");
}
