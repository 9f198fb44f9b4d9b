// Time and timers, in one place so that tests can bring their own.

/**
 * @typedef {object} Clock
 * @property {() => number} now Milliseconds that only rise; for lengths of time.
 * @property {() => number} wallMs Milliseconds since the Unix epoch.
 * @property {(run: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 */

/** The longest wait that `setTimeout` can hold; a longer one would fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** @type {Clock} */
export const systemClock = {
  now: () => performance.now(),
  wallMs: () => Date.now(),
  setTimeout: (run, ms) => globalThis.setTimeout(run, ms),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
};

/** One deadline that can be moved and taken back. */
export class Timer {
  #clock;
  #run;
  /** @type {any} */
  #timer = undefined;
  /** When it is to fire, by `clock.now()`. */
  dueAt = Infinity;

  /**
   * @param {Clock} clock
   * @param {() => void} run
   */
  constructor(clock, run) {
    this.#clock = clock;
    this.#run = run;
  }

  get isSet() {
    return this.#timer !== undefined;
  }

  /** @param {number} ms from now; a wait without end is none. */
  set(ms) {
    this.setAt(this.#clock.now() + Math.max(0, ms));
  }

  /** @param {number} at by `clock.now()` */
  setAt(at) {
    this.clear();
    if (at === Infinity) return;
    this.dueAt = at;
    this.#arm();
  }

  clear() {
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    this.dueAt = Infinity;
  }

  #arm() {
    const leftMs = Math.max(0, this.dueAt - this.#clock.now());
    this.#timer = this.#clock.setTimeout(() => this.#fire(), Math.min(Math.ceil(leftMs), TIMER_MAX_MS));
  }

  /** Not before its time: a long wait is made of parts, and `setTimeout` of a busy process can be a little early. */
  #fire() {
    this.#timer = undefined;
    if (this.#clock.now() < this.dueAt) this.#arm();
    else this.#run();
  }
}

/**
 * Resolves with the promise, or with nothing after `ms`, whichever comes first.
 *
 * @template T
 * @param {Clock} clock
 * @param {Promise<T>} promise
 * @param {number} ms
 * @returns {Promise<T | undefined>}
 */
export function within(clock, promise, ms) {
  return new Promise((resolve, reject) => {
    const timer = new Timer(clock, () => resolve(undefined));
    timer.set(ms);
    promise.then(resolve, reject).finally(() => timer.clear());
  });
}
