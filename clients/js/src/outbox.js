// Messages on their way out, from the application's call to the router's answer.
//
// It must never let a message overtake an earlier one to the same recipient that waits for its repeat, and never call
// a message "not taken" that may have been.

import { Backoff } from "./backoff.js";
import { Timer } from "./clock.js";
import { SendError } from "./errors.js";
import { messageName } from "./ids.js";
import { outboxKey } from "./keys.js";
import { utf8Length } from "./text.js";

/** Back-off between repeats when the router names no time. */
const REPEAT_MIN_MS = 100;
const REPEAT_MAX_MS = 5000;
/** A router that is about to close says so and closes; one that changed its mind is asked again after this. */
const SHUTTING_DOWN_MS = 30_000;
/** What a message costs beside its body. */
const ENTRY_BYTES = 512;

/** These may pass. */
const PASSING = new Set([
  "rate_limited",
  "queue_full",
  "overloaded",
  "storage_unavailable",
  "shutting_down",
  "unknown_outcome",
]);

/**
 * @typedef {object} Accepted
 * @property {string} id
 * @property {number} seq its place in the recipient's inbox
 * @property {boolean} stored it waits on the router's disk; otherwise it was handed over
 *
 * @typedef {object} StoredSend
 * @property {string} id
 * @property {string} to
 * @property {string} body as text
 * @property {number} [ttlMs]
 * @property {number} createdMs
 * @property {number} [deadlineMs] by the wall clock, because it has to hold in the next process too
 *
 * @typedef {StoredSend & {
 *   number: number,
 *   key: string,
 *   bytes: number,
 *   written: boolean,
 *   inFlight: boolean,
 *   maybeTaken: boolean,
 *   notBefore: number,
 *   lastCode: string | undefined,
 *   backoff: Backoff,
 *   deadline: Timer,
 *   repeat: Timer,
 *   resolve: (accepted: Accepted) => void,
 *   reject: (error: SendError) => void,
 * }} Entry
 * `written`: it is in the storage, and may go out. `maybeTaken`: some attempt went out whose outcome is unknown, which
 * a later refusal says nothing of.
 */

export class Outbox {
  /** In the order of the calls. @type {Map<number, Entry>} */
  #entries = new Map();
  /** @type {Map<string, Entry>} */
  #names = new Map();
  /** Those not in flight, by number. @type {Entry[]} */
  #waiting = [];
  #bytes = 0;
  #last = 0;
  #setting;

  /**
   * @param {object} setting
   * @param {import("./clock.js").Clock} setting.clock
   * @param {() => number} setting.random
   * @param {number} setting.messagesMax
   * @param {number} setting.bytesMax
   * @param {() => void} setting.due something may go out that could not before
   * @param {(entry: Entry) => void} setting.expired
   */
  constructor(setting) {
    this.#setting = setting;
  }

  get size() {
    return this.#entries.size;
  }

  /** @returns {Entry[]} in the order of the calls */
  get entries() {
    return [...this.#entries.values()];
  }

  /**
   * A new message. It does not go out before it is `written`.
   *
   * @param {StoredSend} send
   * @param {boolean} retry it may have been taken in an earlier attempt
   */
  add(send, retry) {
    const { messagesMax, bytesMax } = this.#setting;
    if (this.#names.has(messageName(send.to, send.id))) {
      throw failure(send, "already_pending", "it is being sent already", true);
    }
    const bytes = cost(send);
    // The first always finds room, however large it is: the router says what is too large.
    const full = this.#entries.size >= messagesMax || this.#bytes + bytes > bytesMax;
    if (full && this.#entries.size > 0) throw failure(send, "outbox_full", "too much waits already", retry);
    const number = Math.max(this.#last + 1, this.#setting.clock.wallMs());
    return this.#insert(send, number, storedKey(number), { maybeTaken: retry, written: false });
  }

  /**
   * Messages of an earlier process. Nobody knows whether they were taken.
   *
   * @param {Array<[key: string, send: StoredSend]>} records
   */
  load(records) {
    for (const [key, send] of records) {
      if (this.#names.has(messageName(send.to, send.id))) continue;
      this.#insert(send, Math.max(this.#last + 1, numberOf(key)), key, { maybeTaken: true, written: true });
    }
  }

  /**
   * @param {StoredSend} send
   * @param {number} number
   * @param {string} key
   * @param {{ maybeTaken: boolean, written: boolean }} flags
   */
  #insert(send, number, key, flags) {
    const { clock, random } = this.#setting;
    this.#last = number;
    /** @type {Entry} */
    const entry = {
      ...send,
      ...flags,
      number,
      key,
      bytes: cost(send),
      inFlight: false,
      notBefore: 0,
      lastCode: undefined,
      backoff: new Backoff(REPEAT_MIN_MS, REPEAT_MAX_MS, random),
      deadline: new Timer(clock, () => this.#setting.expired(entry)),
      repeat: new Timer(clock, () => this.#setting.due()),
      resolve: () => {},
      reject: () => {},
    };
    this.#entries.set(number, entry);
    this.#names.set(messageName(send.to, send.id), entry);
    this.#waiting.push(entry);
    this.#bytes += entry.bytes;
    if (send.deadlineMs !== undefined) entry.deadline.set(send.deadlineMs - clock.wallMs());
    return entry;
  }

  /**
   * What may go out now, oldest first, so many that `flightMax` are unanswered.
   *
   * @param {number} flightMax
   * @returns {Entry[]}
   */
  due(flightMax) {
    const now = this.#setting.clock.now();
    let room = flightMax - (this.#entries.size - this.#waiting.length);
    /** @type {Set<string>} */
    const held = new Set();
    const due = [];
    for (const entry of this.#waiting) {
      if (room <= 0) break;
      if (held.has(entry.to)) continue;
      if (!entry.written || entry.notBefore > now) {
        held.add(entry.to);
        continue;
      }
      due.push(entry);
      room -= 1;
    }
    return due;
  }

  /**
   * They went out.
   *
   * @param {Entry[]} entries
   */
  sent(entries) {
    for (const entry of entries) entry.inFlight = true;
    if (entries.length > 0) this.#waiting = this.#waiting.filter((entry) => !entry.inFlight);
  }

  /**
   * @param {unknown} to
   * @param {unknown} id
   * @returns {Entry | undefined}
   */
  find(to, id) {
    if (typeof id !== "string") return undefined;
    if (typeof to === "string") return this.#names.get(messageName(to, id));
    return this.entries.find((entry) => entry.id === id);
  }

  /**
   * The router did not take it now. Says whether it is to be repeated, and whether that is news.
   *
   * @param {Entry} entry
   * @param {string} code
   * @param {number | undefined} retryAfterMs
   * @returns {"final" | "put_off" | "put_off_again"}
   */
  rejected(entry, code, retryAfterMs) {
    if (!PASSING.has(code)) return "final";
    const news = entry.lastCode !== code;
    entry.lastCode = code;
    if (code === "unknown_outcome") entry.maybeTaken = true;
    const shuttingDown = code === "shutting_down";
    const wait = shuttingDown ? SHUTTING_DOWN_MS : entry.backoff.next(retryAfterMs);
    entry.notBefore = this.#setting.clock.now() + wait;
    entry.repeat.setAt(entry.notBefore);
    this.#putBack(entry);
    return news ? "put_off" : "put_off_again";
  }

  /** @param {Entry} entry */
  #putBack(entry) {
    if (!entry.inFlight) return;
    entry.inFlight = false;
    const place = this.#waiting.findIndex((other) => other.number > entry.number);
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, entry);
  }

  /**
   * The connection is gone: what was in flight may have been taken, and everything goes out again on the next one,
   * because what it was told to wait for may be gone with the old one.
   */
  disconnected() {
    for (const entry of this.#entries.values()) {
      if (entry.inFlight) entry.maybeTaken = true;
      entry.inFlight = false;
      entry.notBefore = 0;
      entry.repeat.clear();
    }
    this.#waiting = this.entries;
  }

  /**
   * It has its answer. False when it had one before.
   *
   * @param {Entry} entry
   */
  remove(entry) {
    if (!this.#entries.delete(entry.number)) return false;
    this.#names.delete(messageName(entry.to, entry.id));
    if (!entry.inFlight) this.#waiting = this.#waiting.filter((other) => other !== entry);
    this.#bytes -= entry.bytes;
    entry.deadline.clear();
    entry.repeat.clear();
    return true;
  }

  /** No timer fires any more. */
  stop() {
    for (const entry of this.#entries.values()) {
      entry.deadline.clear();
      entry.repeat.clear();
    }
  }
}

/** @param {StoredSend} send */
function cost(send) {
  return utf8Length(send.body) + ENTRY_BYTES;
}

/**
 * Sorted by number as text. What follows the number keeps two tabs apart that chose the same.
 *
 * @param {number} number
 */
function storedKey(number) {
  const suffix = Array.from(crypto.getRandomValues(new Uint8Array(4)), (byte) => byte.toString(16).padStart(2, "0"));
  return outboxKey(`${String(number).padStart(16, "0")}-${suffix.join("")}`);
}

/** @param {string} key */
function numberOf(key) {
  return Number(key.slice(outboxKey("").length).split("-")[0]) || 0;
}

/**
 * @param {{ id: string, to: string }} send
 * @param {import("./errors.js").LocalCode | import("./errors.js").RouterCode} code
 * @param {string} reason
 * @param {boolean} maybeTaken
 * @param {{ kept?: boolean, cause?: unknown }} [more]
 */
export function failure({ id, to }, code, reason, maybeTaken, more = {}) {
  return new SendError({ id, to, code, reason, maybeTaken, ...more });
}
