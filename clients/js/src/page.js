// What a browser tells of the page and the network, so that a client comes back as soon as it can.

/** @typedef {Pick<EventTarget, "addEventListener" | "removeEventListener">} Target */

/**
 * @typedef {object} Page
 * @property {Target} [window] or what stands for it in a worker
 * @property {Target & { visibilityState: string }} [document]
 * @property {globalThis.Storage} [sessionStorage]
 */

/** @returns {Page} */
export function currentPage() {
  if (typeof globalThis.addEventListener !== "function") return {};
  return { window: globalThis, document: globalThis.document, sessionStorage: sessionStorageOf(globalThis) };
}

/** @param {{ sessionStorage?: globalThis.Storage }} window */
function sessionStorageOf(window) {
  try {
    return window.sessionStorage;
  } catch {
    // The user may have forbidden it.
    return undefined;
  }
}

/**
 * Calls `wake` when the network is back, or the page is looked at again.
 *
 * @param {Page} page
 * @param {() => void} wake
 * @returns {() => void} ends it
 */
export function watchPage({ window, document }, wake) {
  const visible = () => {
    if (document?.visibilityState === "visible") wake();
  };
  // From the back-forward cache; connections do not survive that.
  const shown = (/** @type {any} */ event) => {
    if (event.persisted) wake();
  };
  window?.addEventListener("online", wake);
  window?.addEventListener("pageshow", shown);
  document?.addEventListener("visibilitychange", visible);
  return () => {
    window?.removeEventListener("online", wake);
    window?.removeEventListener("pageshow", shown);
    document?.removeEventListener("visibilitychange", visible);
  };
}
