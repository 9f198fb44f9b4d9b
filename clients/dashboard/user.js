// One user: who they are to others, their devices and sessions, and what waits for them.

import { api, ApiError } from "./api.js";
import { confirm } from "./confirm.js";
import { action, Notice, refresh, stateMark } from "./context.js";
import { h } from "/shared/dom.js";
import { ago, bytes, count, counted, moment } from "./format.js";
import { messageList } from "./messages.js";
import { sessionTable } from "./sessions.js";
import { Table } from "./table.js";

/** @typedef {import("./api.js").User} User */

/**
 * @param {import("./context.js").Context} context
 * @param {import("./context.js").Route} route
 * @returns {import("./context.js").Page}
 */
export function user(context, { path: [, name] }) {
  const notice = new Notice();
  const presence = h("p", { class: "presence" });
  const unknown = h("p", { class: "notice quiet", hidden: true });
  const devices = deviceTable(context, name, notice, () => loading.now());
  const sessions = sessionTable(context, notice, () => loading.now(), false);
  const messages = messageList(context, name, () => loading.now());
  const purge = action("Purge the queue …", { class: "danger" }, notice, async () => {
    const answer = await confirm({
      title: `Purge all that waits for ${name}?`,
      says: [
        "Takes every message out of the queue that is in it at this moment. None of them will be delivered to a device that lacks it.",
        "They go to the dead letters, from where they can be queued again for as long as that list keeps them. What is already on its way to a live session is not called back.",
      ],
      verb: "Purge the queue",
      action: () => api.purgeQueue(name),
    });
    if (answer.done) context.announce(`Purged ${counted(answer.result.purged, "message")} of ${name}.`);
    if (answer.done) await loading.now();
  });
  const waiting = h("p", { class: "soft" });

  const known = h(
    "div",
    { class: "stack" },
    h("section", { class: "card", "aria-labelledby": "waiting-title" }, h("div", { class: "card-head" }, h("div", {}, h("h2", { id: "waiting-title" }, "Waiting"), waiting), purge), messages.element),
    h("section", { class: "card", "aria-labelledby": "devices-title" }, h("h2", { id: "devices-title" }, "Devices"), devices.element),
    h("section", { class: "card", "aria-labelledby": "sessions-title" }, h("h2", { id: "sessions-title" }, "Sessions"), sessions.element),
  );

  const loading = refresh(context, notice, async () => {
    const [about, queue] = await Promise.all([orNothing(api.user(name)), orNothing(api.queue(name))]);
    known.hidden = about === null && queue === null;
    unknown.hidden = !known.hidden;
    unknown.textContent = `Nothing is known of ${name}: no device, no session, and nothing waits.`;
    presence.replaceChildren(...(about === null ? [] : presenceOf(about)));
    devices.update(about?.devices ?? []);
    sessions.update(about?.sessions ?? []);
    waiting.textContent = queue === null || queue.messages === 0 ? "Nothing waits on disk." : summary(queue);
    purge.hidden = queue === null || queue.messages === 0;
    await messages.update(queue?.messages ?? 0);
  });
  const offEvent = context.live.onEvent(({ type, data }) => {
    if (type !== "stats" && data.user === name) loading.soon();
  });
  const element = h(
    "div",
    {},
    h("p", { class: "crumbs" }, h("a", { href: "#/users" }, "Users"), " / "),
    h("h1", { tabindex: "-1", class: "name", dir: "auto" }, name),
    presence,
    notice.element,
    unknown,
    known,
  );
  return {
    title: name,
    element,
    close() {
      offEvent();
      loading.close();
      messages.close();
    },
  };
}

/**
 * Who has no device is no error here.
 *
 * @template Answer
 * @param {Promise<Answer>} answer
 * @returns {Promise<Answer | null>}
 */
async function orNothing(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** @param {import("./api.js").Queue} queue */
function summary(queue) {
  const oldest = queue.oldest_ms ? `, the oldest since ${moment(queue.oldest_ms)}` : "";
  return `${counted(queue.messages, "message")} (${bytes(queue.bytes)}) for the device furthest behind${oldest}.`;
}

/**
 * @param {User} about
 * @returns {Node[]}
 */
function presenceOf({ presence, own_state: own, watchers }) {
  const shown = [presence.state, presence.text ? `“${presence.text}”` : "", presence.last_seen_ms ? `last seen ${ago(presence.last_seen_ms)}` : ""];
  const hidden = own === "invisible" ? "invisible by own choice" : "";
  const watched = `watched by ${counted(watchers, "session")}`;
  const text = [...shown, hidden, watched].filter((part) => part !== "").join(" · ");
  return [stateMark(own === "invisible" ? own : presence.state), h("span", { dir: "auto" }, text)];
}

/**
 * @param {import("./context.js").Context} context
 * @param {string} name
 * @param {Notice} notice
 * @param {() => Promise<void>} reload
 */
function deviceTable(context, name, notice, reload) {
  /** @param {import("./api.js").Device} device */
  const forget = ({ device }) =>
    action("Forget …", { class: "small danger", label: `Forget device ${device}` }, notice, async () => {
      const answer = await confirm({
        title: `Forget device “${device}” of ${name}?`,
        says: [
          "The device is unregistered, and its session, if it has one, is closed. Should it come back, it is a new device and starts with what comes after that.",
          "What only this device still lacked goes to the dead letters. If it is the last device, the messages stay for the next one.",
        ],
        verb: "Forget the device",
        action: () => api.forgetDevice(name, device),
      });
      if (answer.done) context.announce(`Forgot device ${device} of ${name}.`);
      if (answer.done) await reload();
    });
  return new Table({
    label: "Devices",
    empty: "No device is registered.",
    key: (/** @type {import("./api.js").Device} */ { device }) => device,
    columns: [
      { title: "Device", kind: "wide", node: ({ device }) => h("span", { class: "name", dir: "auto" }, device) },
      { title: "Backlog", kind: "number", text: (device) => `${count(device.backlog_messages)} (${bytes(device.backlog_bytes)})` },
      { title: "In flight", kind: "number", text: ({ in_flight }) => count(in_flight) },
      { title: "Cursor", kind: "number mono", text: ({ cursor }) => String(cursor) },
      { title: "Seen", kind: "number", text: ({ live, last_seen_ms }) => (live ? "up to date" : ago(last_seen_ms)) },
      { title: "", kind: "actions", node: forget },
    ],
  });
}
