// The feed of events, as a short list on the first page and as a page of its own.

import { userAddress } from "./context.js";
import { h, setText } from "/shared/dom.js";
import { FEED_MAX, KINDS } from "./feed.js";
import { counted, timeOfDay } from "./format.js";

/** @typedef {import("./feed.js").Entry} Entry */
/** @typedef {import("./feed.js").Feed} Feed */

/**
 * A list that follows the feed, the newest first.
 *
 * @param {Feed} feed
 * @param {number} most
 * @param {(entry: Entry) => boolean} [filter]
 */
export function eventList(feed, most, filter = () => true) {
  /** @type {Map<number, HTMLLIElement>} */
  const items = new Map();
  const list = h("ol", { class: "feed" });
  const empty = h("p", { class: "empty soft" }, "Nothing yet. What happens from now on is told here.");
  const element = h("div", {}, list, empty);
  let isPaused = false;
  let isDue = false;

  function draw() {
    isDue = false;
    if (isPaused) return;
    const shown = feed.entries.filter(filter).slice(0, most);
    const kept = new Set(shown.map(({ number }) => number));
    for (const [number, item] of items) {
      if (kept.has(number)) continue;
      item.remove();
      items.delete(number);
    }
    shown.forEach((entry, index) => {
      const item = items.get(entry.number) ?? line(entry);
      items.set(entry.number, item);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    list.hidden = shown.length === 0;
    empty.hidden = shown.length !== 0;
  }

  // Events may come by the hundred: they are drawn together.
  const soon = () => {
    if (!isDue) setTimeout(draw, 100);
    isDue = true;
  };
  const off = feed.onChange(soon);
  draw();
  return {
    element,
    draw,
    /** @param {boolean} paused */
    pause(paused) {
      isPaused = paused;
      draw();
    },
    close: off,
  };
}

/** @param {Entry} entry */
function line({ atMs, type, user, sentence }) {
  return h(
    "li",
    {},
    h("time", { datetime: new Date(atMs).toISOString(), class: "soft" }, timeOfDay(atMs)),
    h("span", { class: `kind kind-${type}` }, KINDS[type]),
    h("span", { class: "feed-text" }, user === null ? null : h("a", { href: userAddress(user), dir: "auto" }, user), " ", h("span", { dir: "auto" }, sentence)),
  );
}

/**
 * @param {import("./context.js").Context} context
 * @returns {import("./context.js").Page}
 */
export function events(context) {
  const shown = new Set(Object.keys(KINDS));
  const list = eventList(context.feed, FEED_MAX, ({ type }) => shown.has(type));
  const filters = Object.entries(KINDS).map(([type, name]) => {
    const box = h("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) shown.add(type);
      else shown.delete(type);
      list.draw();
    });
    return h("label", { class: "check" }, box, name);
  });
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  pause.addEventListener("click", () => {
    const isPaused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(isPaused));
    setText(pause, isPaused ? "Go on" : "Pause");
    list.pause(isPaused);
  });
  const element = h(
    "div",
    {},
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Events"), pause),
    h("p", { class: "lead soft" }, `The last ${counted(FEED_MAX, "event")} since this page was opened. The daemon keeps none.`),
    h("div", { class: "filters", role: "group", "aria-label": "Kinds of events" }, ...filters),
    h("section", { class: "card", "aria-label": "What happened" }, list.element),
  );
  return { title: "Events", element, close: list.close };
}
