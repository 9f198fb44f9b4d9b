// Listeners. One that throws must not break the client, nor keep the others from hearing.

/**
 * @template {Record<string, any>} Events payload by name of event
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<(payload: any) => void>>} */
  #listeners = new Map();
  #report;

  /** @param {(error: unknown) => void} report */
  constructor(report) {
    this.#report = report;
  }

  /**
   * @template {keyof Events} K
   * @param {K} name
   * @param {(payload: Events[K]) => void} listener
   * @returns {() => void} takes the listener away
   */
  on(name, listener) {
    if (typeof listener !== "function") throw new TypeError("a listener must be a function");
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => this.off(name, listener);
  }

  /**
   * @template {keyof Events} K
   * @param {K} name
   * @param {(payload: Events[K]) => void} listener
   */
  off(name, listener) {
    this.#listeners.get(name)?.delete(listener);
  }

  /**
   * @template {keyof Events} K
   * @param {K} name
   * @param {Events[K]} payload
   */
  emit(name, payload) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) this.#call(listener, payload);
  }

  /**
   * @param {(payload: any) => unknown} listener
   * @param {unknown} payload
   */
  #call(listener, payload) {
    try {
      const result = listener(payload);
      // An async listener that fails would be an unhandled rejection, which ends a Node process.
      if (result instanceof Promise) result.catch(this.#report);
    } catch (error) {
      this.#report(error);
    }
  }
}

/**
 * Where errors go that nobody waits for. It never throws.
 *
 * @param {((error: unknown) => void) | undefined} onError
 * @returns {(error: unknown) => void}
 */
export function reporter(onError) {
  const fallback = (/** @type {unknown} */ error) => {
    if (typeof globalThis.reportError === "function") globalThis.reportError(error);
    else console.error(error);
  };
  if (onError === undefined) return fallback;
  return (error) => {
    try {
      onError(error);
    } catch (second) {
      fallback(second);
    }
  };
}
