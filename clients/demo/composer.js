// Where one writes. Enter sends; what is not sent yet is kept for each person while the page lives.

import { byId } from "/shared/dom.js";

const HEIGHT_MAX_PX = 180;

export class Composer {
  /** @type {Map<string, string>} */
  #drafts = new Map();
  #peer = "";
  #text = /** @type {HTMLTextAreaElement} */ (byId("text"));
  #error = byId("text-error");

  /**
   * @param {object} about
   * @param {(to: string, text: string) => Promise<void>} about.send
   * @param {(to: string, isTyping: boolean) => void} about.typing
   * @param {() => number} about.maxBytes of a body
   */
  constructor({ send, typing, maxBytes }) {
    this.send = send;
    this.typing = typing;
    this.maxBytes = maxBytes;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => {
      // While a word is being composed, as in Japanese, Enter belongs to that.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      void this.#submit();
    });
    this.#text.addEventListener("input", () => {
      this.#error.textContent = "";
      this.#drafts.set(this.#peer, this.#text.value);
      this.typing(this.#peer, this.#text.value.trim() !== "");
      this.#fit();
    });
  }

  /** @param {string} peer */
  open(peer) {
    if (this.#peer !== "" && this.#peer !== peer) this.typing(this.#peer, false);
    this.#peer = peer;
    this.#text.value = this.#drafts.get(peer) ?? "";
    this.#error.textContent = "";
    this.#fit();
  }

  focus() {
    this.#text.focus({ preventScroll: true });
  }

  async #submit() {
    const text = this.#text.value.trim();
    if (text === "") return;
    const bytes = new TextEncoder().encode(JSON.stringify({ text })).length;
    if (bytes > this.maxBytes()) {
      this.#error.textContent = `Too long for one message: ${bytes.toLocaleString("en")} of ${this.maxBytes().toLocaleString("en")} bytes.`;
      return;
    }
    const peer = this.#peer;
    this.#text.value = "";
    this.#drafts.delete(peer);
    this.#fit();
    try {
      await this.send(peer, text);
    } catch (error) {
      console.error("a message could not be kept", error);
      if (this.#peer === peer && this.#text.value === "") this.#text.value = text;
      this.#error.textContent = "This browser could not keep the message. It was not sent.";
    }
  }

  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${Math.min(this.#text.scrollHeight + 2, HEIGHT_MAX_PX)}px`;
  }
}
