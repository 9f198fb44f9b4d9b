// The list of people: who they are, how they are, and what is unread.

import { byId, h, setText } from "/shared/dom.js";
import { presenceText, said } from "./words.js";

/** @typedef {import("./chat.js").Person} Person */
/** @typedef {import("./chat.js").Presence} Presence */
/** @typedef {{ row: HTMLLIElement, link: HTMLAnchorElement, mark: HTMLElement, status: HTMLElement, last: HTMLElement, unread: HTMLElement, unreadText: HTMLElement }} Row */

const LAST_CHARS = 80;

/** @param {string} name */
export const addressOf = (name) => `#/${encodeURIComponent(name)}`;

export class People {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #list = byId("people-list");

  /**
   * @param {() => Iterable<Person>} people
   * @param {(name: string) => Presence | undefined} presence
   * @param {() => string} open the name of the conversation that is open
   */
  constructor(people, presence, open) {
    this.people = people;
    this.presence = presence;
    this.open = open;
    this.#list.addEventListener("keydown", (event) => this.#move(event));
  }

  draw() {
    const people = [...this.people()].sort((a, b) => (b.last?.place ?? b.addedMs) - (a.last?.place ?? a.addedMs));
    const names = new Set(people.map(({ name }) => name));
    for (const [name, { row }] of this.#rows) {
      if (names.has(name)) continue;
      row.remove();
      this.#rows.delete(name);
    }
    const focused = document.activeElement;
    people.forEach((person, index) => {
      const row = this.#rows.get(person.name) ?? this.#make(person.name);
      this.#update(row, person);
      if (this.#list.children[index] !== row.row) this.#list.insertBefore(row.row, this.#list.children[index] ?? null);
    });
    // Moving an element in the page takes the focus from it.
    if (focused instanceof HTMLElement && this.#list.contains(focused)) focused.focus({ preventScroll: true });
    byId("people-empty").hidden = people.length > 0;
  }

  /** @param {string} name @returns {Row} */
  #make(name) {
    const mark = h("span", { class: "state-mark", "aria-hidden": "true" });
    const status = h("span", { class: "person-status soft", dir: "auto" });
    const last = h("span", { class: "person-last soft", dir: "auto" });
    const unread = h("span", { class: "unread", "aria-hidden": "true" });
    const unreadText = h("span", { class: "visually-hidden" });
    const link = h(
      "a",
      { href: addressOf(name), class: "person" },
      mark,
      h("span", { class: "person-name", dir: "auto" }, name),
      unread,
      unreadText,
      status,
      last,
    );
    const made = { row: h("li", {}, link), link, mark, status, last, unread, unreadText };
    this.#rows.set(name, made);
    return made;
  }

  /** @param {Row} row @param {Person} person */
  #update({ link, mark, status, last, unread, unreadText }, person) {
    const presence = this.presence(person.name);
    const isTyping = person.typingUntilMs > Date.now();
    mark.dataset.state = presence?.state ?? "offline";
    setText(status, isTyping ? "typing …" : presenceText(presence));
    const words = person.last === null ? "" : said(person.last.body).text.slice(0, LAST_CHARS).replaceAll("\n", " ");
    setText(last, person.last?.way === "out" ? `You: ${words}` : words);
    setText(unread, person.unread > 999 ? "999+" : String(person.unread));
    setText(unreadText, person.unread === 0 ? "" : `, ${person.unread} unread`);
    unread.hidden = person.unread === 0;
    if (this.open() === person.name) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }

  /** @param {string} name */
  focus(name) {
    const row = this.#rows.get(name) ?? this.#rows.values().next().value;
    row?.link.focus();
  }

  /** Arrows, Home and End go through the list. @param {KeyboardEvent} event */
  #move(event) {
    const links = /** @type {HTMLElement[]} */ ([...this.#list.querySelectorAll("a")]);
    const at = links.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to === undefined || at === -1) return;
    event.preventDefault();
    links[Math.min(Math.max(to, 0), links.length - 1)].focus();
  }
}
