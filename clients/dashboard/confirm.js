// The question before something that cannot be taken back.

import { h } from "/shared/dom.js";
import { sentence } from "./api.js";

/**
 * Asks, and does it when the answer is yes. Should it fail, the dialog stays and says why, so that one may try again.
 *
 * @template Result
 * @param {object} about
 * @param {string} about.title the question
 * @param {string[]} about.says what it does, a paragraph each
 * @param {string} about.verb what the button says
 * @param {() => Promise<Result>} about.action
 * @returns {Promise<{ done: true, result: Result } | { done: false }>}
 */
export function confirm({ title, says, verb, action }) {
  const failed = h("p", { class: "field-error", role: "alert" });
  const yes = h("button", { type: "button", class: "danger filled" }, verb);
  const no = h("button", { type: "button" }, "Cancel");
  const dialog = h(
    "dialog",
    { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-says" },
    h("h2", { id: "confirm-title" }, title),
    h("div", { id: "confirm-says" }, ...says.map((text) => h("p", {}, text))),
    failed,
    h("div", { class: "dialog-actions" }, no, yes),
  );
  document.body.append(dialog);
  dialog.showModal();
  no.focus();

  return new Promise((resolve) => {
    /** @type {{ done: true, result: Result } | { done: false }} */
    let outcome = { done: false };
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(outcome);
    });
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", async () => {
      yes.disabled = true;
      failed.textContent = "";
      try {
        outcome = { done: true, result: await action() };
        dialog.close();
      } catch (error) {
        failed.textContent = sentence(error);
        yes.disabled = false;
        yes.focus();
      }
    });
  });
}
