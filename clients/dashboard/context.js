// What every page of the dashboard is given, and the pieces that several of them use.

import { ApiError, sentence } from "./api.js";
import { h } from "/shared/dom.js";

/** @typedef {import("./api.js").Health} Health */
/** @typedef {import("./live.js").LiveEvent} LiveEvent */
/**
 * @typedef {object} Context
 * @property {import("./live.js").Live} live
 * @property {import("./history.js").History} history
 * @property {import("./feed.js").Feed} feed
 * @property {() => Health | null} health
 * @property {() => Promise<void>} refreshHealth
 * @property {(text: string) => void} announce says what was done
 */
/** @typedef {{ path: string[], query: URLSearchParams }} Route */
/** @typedef {{ title: string, element: HTMLElement, close: () => void }} Page */

/** How often a page looks again by itself. */
export const REFRESH_MS = 5000;

/** @param {string} user */
export const userAddress = (user) => `#/users/${encodeURIComponent(user)}`;

/** @param {string} user */
export const userLink = (user) => h("a", { href: userAddress(user), class: "name", dir: "auto" }, user);

/** Where a page says that something failed. */
export class Notice {
  element = h("p", { class: "notice", role: "alert", hidden: true });

  /** @param {unknown} error */
  show(error) {
    // That the daemon is away is said above every page already.
    if (error instanceof ApiError && error.unreachable) return;
    this.element.textContent = sentence(error);
    this.element.hidden = false;
  }

  clear() {
    this.element.hidden = true;
    this.element.textContent = "";
  }
}

/**
 * Loads now, every few seconds, and whenever the daemon comes back; one load at a time.
 *
 * @param {Context} context
 * @param {Notice} notice
 * @param {() => Promise<void>} load
 * @param {number} [everyMs]
 */
export function refresh(context, notice, load, everyMs = REFRESH_MS) {
  let isClosed = false;
  let isLoading = false;
  let isWanted = false;
  let isSoon = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  async function now() {
    if (isClosed) return;
    if (isLoading) {
      isWanted = true;
      return;
    }
    clearTimeout(timer);
    isSoon = false;
    isLoading = true;
    do {
      isWanted = false;
      try {
        await load();
        notice.clear();
      } catch (error) {
        if (!isClosed) notice.show(error);
      }
    } while (isWanted && !isClosed);
    isLoading = false;
    if (!isClosed) timer = setTimeout(now, everyMs);
  }

  const offState = context.live.onState(({ state }) => {
    if (state === "live") void now();
  });
  void now();
  return {
    now,
    /** Soon, and once for many that ask. */
    soon() {
      if (isSoon || isLoading) {
        isWanted ||= isLoading;
        return;
      }
      isSoon = true;
      clearTimeout(timer);
      timer = setTimeout(now, 300);
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
      offState();
    },
  };
}

/**
 * A button whose work may fail: off while it works, and what went wrong is said in the notice.
 *
 * @param {string} text
 * @param {{ class?: string, label?: string }} about
 * @param {Notice} notice
 * @param {() => Promise<unknown>} work
 */
export function action(text, about, notice, work) {
  const button = h("button", { type: "button", class: about.class, "aria-label": about.label }, text);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      notice.show(error instanceof ApiError && error.unreachable ? new Error(sentence(error)) : error);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

/** Goes through a list page by page; the API tells only the way forward, so the way back is remembered. */
export class Pager {
  /** @type {(string | undefined)[]} */
  #trail = [undefined];
  #next = /** @type {string | null} */ (null);

  /** @param {() => void} turned */
  constructor(turned) {
    const turn = (/** @type {() => void} */ step) => () => {
      step();
      turned();
    };
    this.back = h("button", { type: "button", class: "small", onclick: turn(() => this.#trail.pop()) }, "Previous page");
    this.forth = h("button", { type: "button", class: "small", onclick: turn(() => this.#trail.push(this.#next ?? undefined)) }, "Next page");
    this.place = h("span", { class: "soft" });
    this.element = h("div", { class: "pager" }, this.back, this.place, this.forth);
    this.told(null);
  }

  /** What to give as `after`. */
  get after() {
    return this.#trail[this.#trail.length - 1];
  }

  toStart() {
    this.#trail = [undefined];
  }

  /** @param {string | null} next what the answer said */
  told(next) {
    this.#next = next;
    this.back.disabled = this.#trail.length === 1;
    this.forth.disabled = next === null;
    this.place.textContent = `Page ${this.#trail.length}`;
    this.element.hidden = this.#trail.length === 1 && next === null;
  }
}

/** @param {string} state */
export function stateMark(state) {
  return h("span", { class: "state-mark", "data-state": state, "aria-hidden": "true" });
}
