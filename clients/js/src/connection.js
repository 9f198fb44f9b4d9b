// One WebSocket, from opening it to its end: hello, frames in and out, and the watch over silence.
//
// It tells of its end exactly once, and of nothing after that.

import { spreadRetryAfter } from "./backoff.js";
import { Timer } from "./clock.js";
import { closeCodeOfStatus, saidCode } from "./closecodes.js";
import { UNREADABLE, isCount, readFrame, readWelcome } from "./frames.js";

const SUBPROTOCOL = "doorstep.v1";
const OPEN = 1;
/** How long the router may take to answer a close frame. */
const LEAVE_MAX_MS = 2000;
/** A router that names a shorter heartbeat is not asked more often than this. */
const HEARTBEAT_MIN_MS = 500;

/**
 * @typedef {object} Ended
 * @property {number} [code]
 * @property {string} reason
 * @property {number} [retryAfterMs]
 *
 * @typedef {object} Listener
 * @property {(welcome: import("./frames.js").Welcome) => void} welcomed
 * @property {(frame: Record<string, any>) => void} heard
 * @property {(ended: Ended) => void} ended
 */

export class Connection {
  #socket;
  #clock;
  #random;
  #listener;
  #over = false;
  #welcomed = false;
  /** @type {Record<string, any> | undefined} */
  #goodbye = undefined;
  /** What the library said of an error. */
  #errorReason = "";
  #pingsAreSeen = false;
  #heartbeatMs = Infinity;
  #heardAt;
  /** A `ping` went out, and nothing was heard since. */
  #probing = false;
  #silence;

  /**
   * @param {object} setting
   * @param {any} setting.WebSocket
   * @param {string} setting.url
   * @param {string} setting.hello
   * @param {import("./clock.js").Clock} setting.clock
   * @param {() => number} setting.random
   * @param {Listener} setting.listener
   */
  constructor({ WebSocket, url, hello, clock, random, listener }) {
    this.#clock = clock;
    this.#random = random;
    this.#listener = listener;
    this.#heardAt = clock.now();
    this.#silence = new Timer(clock, () => this.#checkSilence());
    this.#socket = new WebSocket(url, [SUBPROTOCOL]);
    this.#socket.addEventListener("open", () => this.send(hello));
    this.#socket.addEventListener("message", (/** @type {any} */ event) => this.#onMessage(event.data));
    this.#socket.addEventListener("close", (/** @type {any} */ event) => this.#onClose(event));
    // What follows is the close; without a listener `ws` would throw.
    this.#socket.addEventListener("error", (/** @type {any} */ event) => this.#onError(event));
    this.#listenForMore();
  }

  /** What `ws` tells beyond the interface of browsers. */
  #listenForMore() {
    if (typeof this.#socket.on !== "function") return;
    this.#pingsAreSeen = true;
    this.#socket.on("ping", () => this.#noteSign());
    this.#socket.on("pong", () => this.#noteSign());
    this.#socket.on("unexpected-response", (/** @type {any} */ _request, /** @type {any} */ response) => {
      const status = response.statusCode;
      const retryAfterMs = spreadRetryAfter(response.headers?.["retry-after"], this.#random);
      this.drop({ code: closeCodeOfStatus(status), reason: `HTTP status ${status}`, retryAfterMs });
    });
  }

  /** Bytes that the socket did not get rid of yet. */
  get bufferedBytes() {
    return this.#socket.bufferedAmount ?? 0;
  }

  /**
   * @param {string} text
   * @returns {boolean} false when the connection is on its way to its end
   */
  send(text) {
    if (this.#over || this.#socket.readyState !== OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  /** The polite end; what the router says before it closes too is still heard. */
  close() {
    if (this.#over) return;
    this.#probing = false;
    this.#silence.clear();
    this.#socket.close(1000);
  }

  /**
   * The end from this side, at once. A socket takes its time to close, above all one that is dead.
   *
   * @param {Ended} ended
   */
  drop(ended) {
    if (this.#over) return;
    this.#finish(ended);
    try {
      if (typeof this.#socket.terminate === "function") this.#socket.terminate();
      else this.#socket.close();
    } catch {
      // It is over for us in any case.
    }
  }

  /**
   * The end from this side, with a word to the router and without listening any more.
   *
   * @param {string} reason
   */
  leave(reason) {
    if (this.#over) return;
    this.#finish({ reason });
    this.#socket.close(1000);
    if (typeof this.#socket.terminate !== "function") return;
    // `ws` would wait half a minute for the answer, and the process with it.
    const impatience = new Timer(this.#clock, () => this.#socket.terminate());
    impatience.set(LEAVE_MAX_MS);
    this.#socket.addEventListener("close", () => impatience.clear());
  }

  /**
   * Asks for a sign of life, because something happened that connections often do not survive.
   *
   * @param {number} limitMs by when it must be there
   */
  probe(limitMs) {
    if (!this.#welcomed || this.#over) return;
    this.#ask(Math.min(this.#silence.dueAt, this.#clock.now() + limitMs));
  }

  /** @param {unknown} data */
  #onMessage(data) {
    if (this.#over) return;
    this.#noteSign();
    if (typeof data !== "string") return this.drop({ reason: "a binary message" });
    const frame = readFrame(data);
    if (frame === UNREADABLE) {
      // Skipping it could skip a message, which a later ack would then cover.
      this.drop({ reason: "not a doorstep router, or a message that cannot be read" });
    } else if (frame.type === "goodbye") {
      this.#goodbye = frame;
    } else if (this.#welcomed) {
      this.#listener.heard(frame);
    } else if (frame.type === "welcome") {
      this.#begin(frame);
    }
  }

  /** @param {Record<string, any>} frame */
  #begin(frame) {
    const welcome = readWelcome(frame);
    if (typeof welcome.user !== "string") return this.drop({ reason: "a welcome without a user" });
    this.#welcomed = true;
    this.#heartbeatMs = Math.max(welcome.limits.heartbeatMs, HEARTBEAT_MIN_MS);
    this.#watchSilence();
    this.#listener.welcomed(welcome);
  }

  /** @param {{ code?: number, reason?: string }} event */
  #onClose({ code, reason }) {
    const goodbye = this.#goodbye;
    const retryAfterMs = isCount(goodbye?.retry_after_ms) ? goodbye?.retry_after_ms : undefined;
    this.#finish({
      code: saidCode(code) ?? goodbye?.code,
      reason: goodbye?.reason || reason || this.#errorReason || "the connection broke",
      retryAfterMs,
    });
  }

  /** @param {any} event of `ws` with a message, of browsers with nothing */
  #onError(event) {
    if (typeof event?.message === "string") this.#errorReason = event.message;
  }

  /** @param {Ended} ended */
  #finish(ended) {
    if (this.#over) return;
    this.#over = true;
    this.#silence.clear();
    this.#listener.ended(ended);
  }

  #noteSign() {
    this.#heardAt = this.#clock.now();
    if (this.#probing) this.#watchSilence();
  }

  #watchSilence() {
    this.#probing = false;
    const patience = this.#pingsAreSeen ? 2 : 1;
    this.#silence.setAt(this.#heardAt + patience * this.#heartbeatMs);
  }

  #checkSilence() {
    const now = this.#clock.now();
    const wasLate = now - this.#silence.dueAt > this.#heartbeatMs / 2;
    const silentMs = now - this.#heardAt;
    if (!this.#probing && silentMs < this.#heartbeatMs) return this.#watchSilence();
    if (this.#probing || this.#pingsAreSeen) {
      // A timer that fires late says that this machine slept or that the browser holds the tab back: the router may
      // have been there all the time.
      if (!wasLate && (this.#probing || silentMs >= 2 * this.#heartbeatMs)) {
        return this.drop({ reason: "the router fell silent" });
      }
      if (!wasLate) return this.#watchSilence();
    }
    this.#ask(Math.max(this.#heardAt + 2 * this.#heartbeatMs, now + this.#heartbeatMs));
  }

  /** @param {number} answerBy */
  #ask(answerBy) {
    this.#probing = true;
    this.#silence.setAt(answerBy);
    this.send('{"type":"ping"}');
  }
}
