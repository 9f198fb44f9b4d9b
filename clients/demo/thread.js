// The messages of one conversation. Only a stretch of them is in the page, however long the conversation is.

import { byId, h, setText } from "/shared/dom.js";
import { counted, dayName, FAILURES, isSameDay, said, timeOfDay, wholeMoment } from "./words.js";

/** @typedef {import("./archive.js").Entry} Entry */

/** Messages shown at once, and how many more each look into the past brings. */
const SHOWN = 200;
/** So many are in the page at most. */
const SHOWN_MAX = 600;
/** Who is as close to the end as this follows what comes. */
const NEAR_PX = 80;
/** Messages of one person that follow each other within this stand close together. */
const CLOSE_MS = 5 * 60_000;
const DRAW_MIN_MS = 30;
const DRAW_MAX_MS = 400;
/** A longer text is folded. */
const LONG_CHARS = 1500;
const LONG_LINES = 24;

/** @param {Entry} entry */
const keyOf = ({ way, id }) => `${way}:${id}`;

export class Thread {
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Map<string, Item>} */
  #items = new Map();
  #peer = "";
  /** Whether the stretch that is shown reaches to the newest message. */
  #isAtEnd = true;
  #hasEarlier = false;
  #unseen = 0;
  /** Kept and not asked for each time, because the browser has to lay the page out for the answer. */
  #isFollowing = true;
  #isDue = false;
  #drawTookMs = 0;
  #list = byId("messages");
  #scroll = byId("scroll");
  #earlier = /** @type {HTMLButtonElement} */ (byId("earlier"));
  #jump = byId("jump");

  /**
   * @param {object} source
   * @param {(peer: string, most: number, before?: number) => Promise<Entry[]>} source.page
   * @param {(entry: Entry) => void} source.again
   * @param {() => void} source.sawAll the newest message is on the screen
   */
  constructor(source) {
    this.source = source;
    this.#earlier.addEventListener("click", () => void this.#showEarlier());
    this.#jump.addEventListener("click", () => void this.#toEnd());
    this.#scroll.addEventListener("scroll", () => {
      this.#isFollowing = this.#isNearEnd();
      if (this.isAtNewest) this.#sawAll();
    });
    // A keyboard that slides in, or a composer that grows, must not hide the end from who is there.
    new ResizeObserver(() => {
      if (this.#isFollowing) this.#scrollToEnd();
    }).observe(this.#scroll);
  }

  /** Shows the end of a conversation. @param {string} peer */
  async open(peer) {
    this.#peer = peer;
    this.#list.replaceChildren();
    this.#items.clear();
    this.#entries = [];
    this.#isAtEnd = true;
    this.#isFollowing = true;
    await this.#loadEnd();
  }

  async #loadEnd() {
    const peer = this.#peer;
    const entries = await this.source.page(peer, SHOWN + 1);
    if (peer !== this.#peer) return;
    this.#hasEarlier = entries.length > SHOWN;
    // What came while this was being read is in the list already.
    const later = this.#isAtEnd ? this.#entries.filter((known) => !entries.some((entry) => keyOf(entry) === keyOf(known))) : [];
    this.#entries = [...entries.slice(-SHOWN), ...later];
    this.#isAtEnd = true;
    this.#draw();
    this.#scrollToEnd();
    this.#sawAll();
  }

  /** Whether the newest message is on the screen. */
  get isAtNewest() {
    return this.#isAtEnd && this.#isFollowing;
  }

  /**
   * @param {Entry} entry
   * @param {boolean} isNew
   * @param {boolean} isFromHere and not from another tab
   */
  take(entry, isNew, isFromHere) {
    const known = this.#entries.findIndex((other) => keyOf(other) === keyOf(entry));
    if (known !== -1) {
      this.#entries[known] = entry;
    } else if (isNew && this.#isAtEnd) {
      // One who reads further up is not pushed away from there; the rest can be had by going to the end.
      if (this.#isFollowing || this.#entries.length < SHOWN_MAX) this.#entries.push(entry);
      else this.#isAtEnd = false;
    }
    if (isNew && entry.way === "in" && !this.#isFollowing) this.#unseen += 1;
    if (isNew && entry.way === "out" && isFromHere) void this.#toEnd();
    this.#drawSoon();
  }

  #isNearEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroll;
    return scrollHeight - clientHeight - scrollTop < NEAR_PX;
  }

  #scrollToEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#isFollowing = true;
  }

  #sawAll() {
    this.#unseen = 0;
    this.#jump.hidden = true;
    this.source.sawAll();
  }

  async #toEnd() {
    if (!this.#isAtEnd) return this.#loadEnd();
    this.#scrollToEnd();
    this.#sawAll();
    this.#drawSoon();
  }

  async #showEarlier() {
    const before = this.#entries[0]?.place;
    const entries = await this.source.page(this.#peer, SHOWN + 1, before);
    this.#hasEarlier = entries.length > SHOWN;
    this.#entries.unshift(...entries.slice(-SHOWN));
    if (this.#entries.length > SHOWN_MAX) {
      this.#entries.length = SHOWN_MAX;
      this.#isAtEnd = false;
    }
    const fromEnd = this.#scroll.scrollHeight - this.#scroll.scrollTop;
    const first = this.#list.querySelector("li.message");
    const topBefore = first?.getBoundingClientRect().top ?? 0;
    this.#draw();
    if (first?.isConnected) this.#scroll.scrollTop += first.getBoundingClientRect().top - topBefore;
    else this.#scroll.scrollTop = this.#scroll.scrollHeight - fromEnd;
    this.#isFollowing = this.#isNearEnd();
    if (this.#earlier.hidden) this.#scroll.focus();
  }

  /** Messages may come by the hundred: they are drawn together, and the page never does nothing but draw. */
  #drawSoon() {
    if (this.#isDue) return;
    this.#isDue = true;
    setTimeout(() => {
      const beganAtMs = performance.now();
      this.#isDue = false;
      if (this.isAtNewest && this.#entries.length > SHOWN * 1.5) {
        this.#entries.splice(0, this.#entries.length - SHOWN);
        this.#hasEarlier = true;
      }
      this.#draw();
      if (this.#isFollowing) this.#scrollToEnd();
      this.#drawTookMs = performance.now() - beganAtMs;
    }, Math.min(DRAW_MIN_MS + 4 * this.#drawTookMs, DRAW_MAX_MS));
  }

  #draw() {
    const kept = new Set(this.#entries.map(keyOf));
    for (const [key, item] of this.#items) {
      if (kept.has(key)) continue;
      item.element.remove();
      this.#items.delete(key);
    }
    for (const divider of this.#list.querySelectorAll("li.divider")) divider.remove();
    let next = /** @type {Element | null} */ (this.#list.firstElementChild);
    this.#entries.forEach((entry, index) => {
      const before = this.#entries[index - 1];
      for (const divider of this.#dividers(entry, before, index)) this.#list.insertBefore(divider, next);
      const { element } = this.#item(entry, before);
      if (element === next) next = next.nextElementSibling;
      else this.#list.insertBefore(element, next);
    });
    this.#earlier.hidden = !this.#hasEarlier;
    const isBehind = this.#unseen > 0 || !this.#isAtEnd;
    this.#jump.hidden = !isBehind;
    setText(this.#jump, this.#unseen > 0 ? `${counted(this.#unseen, "new message")} ↓` : "To the newest ↓");
  }

  /**
   * @param {Entry} entry
   * @param {Entry | undefined} before
   * @param {number} index
   * @returns {Element[]}
   */
  #dividers(entry, before, index) {
    const dividers = [];
    if (before === undefined || !isSameDay(before.atMs, entry.atMs)) dividers.push(h("li", { class: "divider" }, dayName(entry.atMs)));
    if (entry.waited !== undefined && before?.waited !== entry.waited) {
      let count = 0;
      while (this.#entries[index + count]?.waited === entry.waited) count += 1;
      const more = before === undefined && this.#hasEarlier ? "more than " : "";
      dividers.push(h("li", { class: "divider away" }, `While you were away: ${more}${counted(count, "message")}`));
    }
    return dividers;
  }

  /**
   * @param {Entry} entry
   * @param {Entry | undefined} before
   */
  #item(entry, before) {
    const key = keyOf(entry);
    let item = this.#items.get(key);
    if (item === undefined) {
      item = new Item(entry, () => this.source.again(entry));
      this.#items.set(key, item);
    }
    const isClose = before !== undefined && before.way === entry.way && entry.atMs - before.atMs < CLOSE_MS && before.waited === entry.waited;
    item.update(entry, isClose);
    return item;
  }
}

/** One message. */
class Item {
  /** @type {string | undefined} */
  #state;

  /**
   * @param {Entry} entry
   * @param {() => void} again
   */
  constructor(entry, again) {
    this.again = again;
    const { text, isText } = said(entry.body);
    const isOwn = entry.way === "out";
    const words = h("p", { class: isText ? "text" : "text raw", dir: "auto" }, text);
    this.tick = h("span", { class: "tick" });
    const time = h("time", { datetime: new Date(entry.atMs).toISOString(), title: wholeMoment(entry.atMs) }, timeOfDay(entry.atMs));
    this.element = h(
      "li",
      { class: isOwn ? "message own" : "message", "data-id": entry.id },
      h("span", { class: "visually-hidden" }, isOwn ? "You: " : `${entry.peer}: `),
      words,
      ...(isLong(text) ? [unfold(words)] : []),
      h("p", { class: "meta" }, time, isOwn ? this.tick : null),
    );
  }

  /** @param {Entry} entry @param {boolean} isClose */
  update(entry, isClose) {
    this.element.classList.toggle("close", isClose);
    const state = `${entry.state}:${entry.code}`;
    if (entry.way === "in" || state === this.#state) return;
    this.#state = state;
    this.element.dataset.state = entry.state;
    const { words, title } = tickOf(entry);
    this.tick.title = title;
    this.tick.replaceChildren(words);
    if (entry.state === "failed" || entry.state === "unsure") {
      this.tick.append(" ", h("button", { type: "button", class: "again", onclick: () => this.again() }, "Send again"));
    }
  }
}

/**
 * @param {Entry} entry
 * @returns {{ words: string, title: string }}
 */
function tickOf({ peer, state, code }) {
  const why = FAILURES[code ?? ""] ?? code ?? "";
  switch (state) {
    case "stored":
      return { words: "✓ waiting", title: `Safe on the router's disk, and there for ${peer}` };
    case "handed":
      return { words: "✓✓ handed over", title: `Every device of ${peer} has it` };
    case "read":
      return { words: "✓✓ read", title: `${peer} has seen it` };
    case "failed":
      return { words: `Not sent: ${why}.`, title: "It was not taken and will not arrive" };
    case "unsure":
      return { words: `Perhaps not sent: ${why}.`, title: "It may have been taken, and may still arrive" };
    default:
      return { words: why === "" ? "sending …" : `sending … (${why})`, title: "Kept in this browser until the router has taken it" };
  }
}

/** @param {string} text */
function isLong(text) {
  return text.length > LONG_CHARS || text.split("\n", LONG_LINES + 1).length > LONG_LINES;
}

/** @param {HTMLElement} words */
function unfold(words) {
  words.classList.add("folded");
  const button = h("button", { type: "button", class: "unfold", "aria-expanded": "false" }, "Show all of it");
  button.addEventListener("click", () => {
    const isFolded = words.classList.toggle("folded");
    button.setAttribute("aria-expanded", String(!isFolded));
    setText(button, isFolded ? "Show all of it" : "Show less");
  });
  return button;
}
