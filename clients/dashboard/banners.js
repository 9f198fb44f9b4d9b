// What an operator has to know on whatever page they are: the daemon is away, drains, cannot write, or waits for a word.

import { api } from "./api.js";
import { confirm } from "./confirm.js";
import { action, Notice } from "./context.js";
import { h, setText } from "/shared/dom.js";
import { bytes, duration } from "./format.js";

/** @typedef {import("./api.js").Health} Health */
/** @typedef {{ key: string, grave: boolean, title: string, text: string, button?: () => HTMLElement }} Banner */

/** A commit that takes longer is worth a word. */
const LONG_COMMIT_MS = 5000;

export class Banners {
  /** @type {Map<string, { element: HTMLElement, text: HTMLElement }>} */
  #shown = new Map();

  /**
   * @param {HTMLElement} place
   * @param {import("./context.js").Context} context
   */
  constructor(place, context) {
    this.place = place;
    this.context = context;
  }

  draw() {
    const banners = [...this.#ofConnection(), ...this.#ofHealth(this.context.health())];
    for (const [key, { element }] of this.#shown) {
      if (banners.some((banner) => banner.key === key)) continue;
      element.remove();
      this.#shown.delete(key);
    }
    for (const banner of banners) setText(this.#place(banner), banner.text);
  }

  /** @param {Banner} banner */
  #place({ key, grave, title, button }) {
    const shown = this.#shown.get(key);
    if (shown !== undefined) return shown.text;
    const text = h("span");
    // The text counts seconds: only the title is for the ears.
    const element = h("div", { class: grave ? "banner grave" : "banner" }, h("p", {}, h("strong", { role: "alert" }, title), " ", text), button?.());
    this.#shown.set(key, { element, text });
    this.place.append(element);
    return text;
  }

  /** @returns {Banner[]} */
  #ofConnection() {
    const { state, reason, isRefused, retryAtMs } = this.context.live.state;
    const button = () => h("button", { type: "button", class: "small", onclick: () => this.context.live.tryNow() }, "Try now");
    if (state === "asking") {
      const text = `${reason} The figures are asked for every second meanwhile.`;
      return [{ key: "asking", grave: false, title: "What happens is not shown as it happens.", text, button }];
    }
    if (state !== "down") return [];
    const leftMs = retryAtMs - Date.now();
    return [
      {
        key: isRefused ? "refused" : "down",
        grave: true,
        title: isRefused ? "There are no live figures." : "The daemon cannot be reached.",
        text: `${reason} ${leftMs > 0 ? `Trying again in ${duration(leftMs + 999)}; the figures below are old.` : "Trying …"}`,
        button,
      },
    ];
  }

  /**
   * @param {Health | null} health
   * @returns {Banner[]}
   */
  #ofHealth(health) {
    if (health === null || this.context.live.state.state === "down") return [];
    /** @type {[boolean, Banner][]} */
    const all = [
      [health.store === "poisoned", { key: "poisoned", grave: true, title: "The store is poisoned.", text: "A sync to the disk failed. The daemon ends soon with status 75, so that it is started afresh; look at the disk." }],
      [
        health.commit_running_ms >= LONG_COMMIT_MS,
        { key: "commit", grave: true, title: "The disk does not answer.", text: `A commit has been under way for ${duration(health.commit_running_ms)}. Nothing is called stored before it ends.` },
      ],
      [!health.live, { key: "stuck", grave: true, title: "A part of the daemon does not answer.", text: "Its log says more." }],
      [health.store === "low", { key: "low", grave: true, title: "The disk is low.", text: `${bytes(health.disk_free_bytes)} are free, less than store.min_free: messages for the disk are refused until there is room.` }],
      [health.draining, { key: "draining", grave: false, title: "The daemon drains.", text: "It takes no new connections and messages, and ends when all that it has taken is safe." }],
      [
        health.expiry_paused,
        { key: "expiry", grave: false, title: "Nothing expires.", text: "The clock has stepped. Look whether it is right, and then let messages and devices expire again.", button: () => this.#resume() },
      ],
    ];
    return all.filter(([holds]) => holds).map(([, banner]) => banner);
  }

  #resume() {
    return action("Resume …", { class: "small" }, new Notice(), async () => {
      const answer = await confirm({
        title: "Let things expire again?",
        says: [
          `The clock of this browser says ${new Date().toString()}. If the daemon's clock is wrong, messages expire that should not: they go to the dead letters.`,
        ],
        verb: "Resume expiry",
        action: () => api.resumeExpiry(),
      });
      if (answer.done) this.context.announce("Messages and devices expire again.");
      await this.context.refreshHealth();
    });
  }
}
