// A look at the messages that wait for a user, page by page; nothing is consumed.

import { api, ApiError } from "./api.js";
import { confirm } from "./confirm.js";
import { action, Notice, Pager } from "./context.js";
import { h } from "/shared/dom.js";
import { ahead, bytes, counted, moment } from "./format.js";
import { Table } from "./table.js";

/** @typedef {import("./api.js").Message} Message */

const LIMIT = 25;

/**
 * @param {import("./context.js").Context} context
 * @param {string} user
 * @param {() => Promise<void>} reload after something was purged
 */
export function messageList(context, user, reload) {
  const notice = new Notice();
  const corrupt = h("p", { class: "notice quiet", hidden: true });
  const table = new Table({
    label: `Messages that wait for ${user}`,
    empty: "No message of the queue is on disk.",
    key: (/** @type {Message} */ { seq }) => String(seq),
    columns: [
      { title: "From", node: ({ from }) => h("span", { class: "name", dir: "auto" }, from) },
      { title: "Taken in", kind: "moment", text: ({ ts_ms }) => moment(ts_ms) },
      { title: "Expires", kind: "moment", text: ({ expires_ms }) => ahead(expires_ms) },
      { title: "Message", kind: "wide", node: (message) => body(message.body_bytes, () => read(user, message.seq), `${message.id} · seq ${message.seq}${message.retry ? " · a repeat" : ""}`) },
      { title: "", kind: "actions", node: ({ seq, from }) => purge(seq, from) },
    ],
  });
  let isClosed = false;
  const pager = new Pager(() => void load());

  /**
   * @param {number} seq
   * @param {string} from
   */
  const purge = (seq, from) =>
    action("Purge …", { class: "small danger", label: `Purge message ${seq}` }, notice, async () => {
      const answer = await confirm({
        title: "Purge this message?",
        says: [`The message of ${from} with seq ${seq} is taken out of the queue of ${user} and goes to the dead letters, from where it can be queued again.`],
        verb: "Purge the message",
        action: () => api.purgeMessage(user, seq),
      });
      if (!answer.done) return;
      context.announce(`Purged ${counted(answer.result.purged, "message")} of ${user}.`);
      await reload();
    });

  async function load() {
    try {
      const answer = await api.messages(user, { limit: LIMIT, after: pager.after });
      if (isClosed) return;
      table.update(answer.messages);
      pager.told(answer.next);
      corrupt.hidden = answer.corrupt.length === 0;
      corrupt.textContent = `${counted(answer.corrupt.length, "record")} of this page could not be read.`;
      notice.clear();
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) table.update([]);
      else notice.show(error);
    }
  }

  const element = h("div", { class: "peek" }, notice.element, corrupt, table.element, pager.element);
  return {
    element,
    /** @param {number} waiting */
    async update(waiting) {
      element.hidden = waiting === 0;
      if (waiting === 0) pager.toStart();
      await load();
    },
    close() {
      isClosed = true;
    },
  };
}

/**
 * @param {string} user
 * @param {number} seq
 */
async function read(user, seq) {
  const { messages } = await api.messages(user, { from: seq, limit: 1, bodies: true });
  if (messages[0]?.seq !== seq) throw new Error("The message is not in the queue any more.");
  return messages[0].body ?? "";
}

/**
 * Says what a message is, and shows its body when that is asked for: what people write to each other is shown to nobody who
 * only looks at a list.
 *
 * @param {number} size
 * @param {() => Promise<string>} load
 * @param {string} about
 */
export function body(size, load, about) {
  const text = h("pre", { class: "body", tabindex: "0", "aria-label": "Body", dir: "auto", hidden: true });
  const failed = new Notice();
  const show = action(`Show body (${bytes(size)})`, { class: "small plain" }, failed, async () => {
    if (text.hidden) text.textContent = await load();
    text.hidden = !text.hidden;
    show.textContent = text.hidden ? `Show body (${bytes(size)})` : "Hide body";
    show.setAttribute("aria-expanded", String(!text.hidden));
    failed.clear();
  });
  show.setAttribute("aria-expanded", "false");
  return h("div", { class: "message" }, h("span", { class: "mono soft" }, about), show, failed.element, text);
}
