// How long to wait before the next attempt.

/** The longest wait that a router may ask for; a longer one is cut to this. */
export const RETRY_AFTER_MAX_MS = 3_600_000;

/** Exponential back-off with full jitter: the wait is drawn from zero up to a bound that doubles. */
export class Backoff {
  #minMs;
  #maxMs;
  #random;
  #failures = 0;

  /**
   * @param {number} minMs bound of the first wait
   * @param {number} maxMs bound of every later one
   * @param {() => number} random from 0 up to 1
   */
  constructor(minMs, maxMs, random) {
    this.#minMs = minMs;
    this.#maxMs = Math.max(minMs, maxMs);
    this.#random = random;
  }

  /**
   * The wait before the next attempt. One that the router asked for wins, and nothing is added to it.
   *
   * @param {number} [retryAfterMs]
   */
  next(retryAfterMs) {
    const boundMs = Math.min(this.#minMs * 2 ** Math.min(this.#failures, 30), this.#maxMs);
    this.#failures += 1;
    if (retryAfterMs !== undefined) return Math.min(retryAfterMs, RETRY_AFTER_MAX_MS);
    return boundMs * this.#random();
  }

  reset() {
    this.#failures = 0;
  }
}

/**
 * The wait for a `Retry-After` header. It is in whole seconds and the same to everybody: taken literally, all would
 * come back at once. (A `goodbye` is spread by the router.)
 *
 * @param {string | undefined} header
 * @param {() => number} random
 */
export function spreadRetryAfter(header, random) {
  if (header === undefined || !/^\d+$/.test(header)) return undefined;
  const waitMs = Math.min(Number(header) * 1000, RETRY_AFTER_MAX_MS);
  return waitMs + Math.max(waitMs / 2, 1000) * random();
}
