// One's own name and status, and the dialog that changes them.

import { byId, setText } from "/shared/dom.js";

/** @typedef {import("./chat.js").Status} Status */

const STATUS_KEY = "doorstep-chat.status";
/** @type {Status[]} */
const STATES = ["online", "away", "busy", "invisible"];

export class You {
  /** @type {{ state: Status, text: string }} */
  status = kept();
  #dialog = /** @type {HTMLDialogElement} */ (byId("you"));
  #form = /** @type {HTMLFormElement} */ (byId("you-form"));
  #text = /** @type {HTMLInputElement} */ (byId("status-text"));
  #error = byId("you-error");

  /**
   * @param {object} about
   * @param {string} about.me
   * @param {(state: Status, text: string) => Promise<void>} about.save
   * @param {() => Promise<void>} about.leave
   */
  constructor({ me, save, leave }) {
    this.me = me;
    this.save = save;
    byId("you-open").addEventListener("click", () => this.#open());
    byId("you-cancel").addEventListener("click", () => this.#dialog.close());
    byId("leave").addEventListener("click", () => void leave());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.draw(undefined, false);
  }

  /**
   * What the router says of oneself: another tab may be more available.
   *
   * @param {{ state: string, text?: string } | undefined} presence
   * @param {boolean} isConnected
   */
  draw(presence, isConnected) {
    const { state, text = "" } = presence ?? this.status;
    byId("me-mark").dataset.state = isConnected ? state : "offline";
    setText(byId("me-status"), `${text === "" ? state : `${state}: ${text}`}${isConnected ? "" : ", once connected"}`);
  }

  #open() {
    const chosen = this.#form.querySelector(`input[value="${this.status.state}"]`);
    /** @type {HTMLInputElement} */ (chosen).checked = true;
    this.#text.value = this.status.text;
    this.#error.textContent = "";
    this.#dialog.showModal();
    /** @type {HTMLInputElement} */ (chosen).focus();
  }

  async #submit() {
    const state = /** @type {Status} */ (new FormData(this.#form).get("state"));
    this.status = { state, text: this.#text.value.trim() };
    sessionStorage.setItem(STATUS_KEY, JSON.stringify(this.status));
    this.#dialog.close();
    try {
      await this.save(this.status.state, this.status.text);
    } catch (error) {
      console.error("the status could not be set", error);
    }
  }
}

/** @returns {{ state: Status, text: string }} */
function kept() {
  try {
    const { state, text } = JSON.parse(sessionStorage.getItem(STATUS_KEY) ?? "");
    if (STATES.includes(state) && typeof text === "string") return { state, text };
  } catch {
    // Nothing is kept yet.
  }
  return { state: "online", text: "" };
}
