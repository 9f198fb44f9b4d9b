// Says how the connection is, and what can be done about it.

import { byId, setText } from "/shared/dom.js";

/** @typedef {import("./chat.js").Connection} Connection */

/** Why a client came to its end, and what the button then says. @type {Record<number, [string, string, string]>} */
const ENDS = {
  4409: ["Open somewhere else", "This chat was opened in another place as the same device.", "Use here"],
  4410: ["Closed by an operator", "An operator of the router ended this session.", "Come back"],
  4403: ["Not allowed in", "The router lets nobody in with this name, or you have too many devices.", "Try again"],
};

export class ConnectionView {
  #place = byId("connection");
  #text = byId("connection-text");
  #more = byId("connection-more");
  #button = /** @type {HTMLButtonElement} */ (byId("connection-button"));
  /** @type {Connection} */
  #connection = { state: "connecting" };

  /** @param {() => void} restart */
  constructor(restart) {
    this.#button.addEventListener("click", restart);
    setInterval(() => this.#draw(), 500);
  }

  /** @param {Connection} connection */
  update(connection) {
    this.#connection = connection;
    this.#draw();
  }

  #draw() {
    const { title, more, button } = this.#words();
    this.#place.dataset.state = this.#connection.state;
    setText(this.#text, title);
    // The seconds are for the eyes: what is said aloud is the title alone.
    setText(this.#more, more);
    setText(this.#button, button);
    this.#more.hidden = more === "";
    this.#button.hidden = button === "";
  }

  /** @returns {{ title: string, more: string, button: string }} */
  #words() {
    const { state, retryAtMs, code, message } = this.#connection;
    if (state === "online") return { title: "Connected", more: "", button: "" };
    if (state === "connecting") return { title: "Connecting …", more: "", button: "" };
    if (state === "waiting") {
      const seconds = Math.max(0, Math.ceil(((retryAtMs ?? 0) - Date.now()) / 1000));
      return { title: "Not connected", more: `Trying again in ${seconds} s. What you write is kept and sent then.`, button: "Try now" };
    }
    const end = ENDS[code ?? 0];
    if (end !== undefined) return { title: end[0], more: end[1], button: end[2] };
    return { title: "Not connected", more: message ?? `The router ended the connection${code === undefined ? "" : ` (${code})`}.`, button: "Try again" };
  }
}
