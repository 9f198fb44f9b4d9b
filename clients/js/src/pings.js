// Pings of the application that wait for their pong.

import { NotConnectedError } from "./errors.js";

/** Further ones fail. */
const PINGS_MAX = 16;

export class Pings {
  #clock;
  #last = 0;
  /** @type {Map<unknown, { sentAt: number, resolve: (ms: number) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();

  /** @param {import("./clock.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /**
   * @param {(n: number) => void} say
   * @returns {Promise<number>} the time to the router and back
   */
  send(say) {
    if (this.#waiting.size >= PINGS_MAX) return Promise.reject(new RangeError("too many pings wait already"));
    this.#last += 1;
    const n = this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(n, { sentAt: this.#clock.now(), resolve, reject });
      say(n);
    });
  }

  /** @param {unknown} n */
  answered(n) {
    const ping = this.#waiting.get(n);
    if (ping === undefined) return;
    this.#waiting.delete(n);
    ping.resolve(this.#clock.now() - ping.sentAt);
  }

  disconnected() {
    const error = new NotConnectedError("the connection was lost");
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
