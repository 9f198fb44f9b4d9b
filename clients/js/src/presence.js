// Whom the application watches, and the newest that is known of each.
//
// It must never let an older presence replace a newer one.

import { isCount } from "./frames.js";

/** Users that a client watches at most; the router's own limit is lower by default. */
export const WATCHED_MAX = 16_384;

/**
 * @typedef {"online" | "away" | "busy" | "invisible"} OwnState
 *
 * @typedef {object} PresenceEntry
 * @property {string} user
 * @property {OwnState | "offline"} state
 * @property {string} [text]
 * @property {number} [lastSeenMs]
 * @property {number} version
 */

export class Presence {
  /** @type {Set<string>} */
  #watched = new Set();
  /** @type {Map<string, PresenceEntry>} */
  #known = new Map();
  /** Presence of oneself comes without watching. @type {string | undefined} */
  self = undefined;

  get watched() {
    return [...this.#watched];
  }

  /**
   * @param {string} user
   * @returns {PresenceEntry | undefined}
   */
  known(user) {
    return this.#known.get(user);
  }

  /**
   * All of `users`, or none when that would be too many. Returns them without repetition.
   *
   * @param {string[]} users
   */
  watch(users) {
    const all = new Set([...this.#watched, ...users]);
    if (all.size > WATCHED_MAX) throw new RangeError(`more than ${WATCHED_MAX} users to watch`);
    this.#watched = all;
    return [...new Set(users)];
  }

  /**
   * Returns those of `users` who were watched.
   *
   * @param {string[]} users
   */
  unwatch(users) {
    const gone = users.filter((user) => this.#watched.delete(user));
    for (const user of gone) if (user !== this.self) this.#known.delete(user);
    return gone;
  }

  /**
   * Keeps what is newer than everything known of its user, and returns it.
   *
   * @param {unknown} entries of a `presence` frame
   * @returns {PresenceEntry[]}
   */
  learn(entries) {
    if (!Array.isArray(entries)) return [];
    return entries.filter((entry) => this.#isNews(entry)).map((entry) => this.#keep(entry));
  }

  /** @param {any} entry */
  #isNews(entry) {
    if (typeof entry?.user !== "string" || typeof entry.state !== "string" || !isCount(entry.version)) return false;
    if (entry.user !== this.self && !this.#watched.has(entry.user)) return false;
    return entry.version > (this.#known.get(entry.user)?.version ?? -1);
  }

  /** @param {any} frame */
  #keep({ user, state, text, last_seen_ms, version }) {
    /** @type {PresenceEntry} */
    const entry = { user, state, version };
    if (text !== undefined) entry.text = text;
    if (last_seen_ms !== undefined) entry.lastSeenMs = last_seen_ms;
    this.#known.set(user, entry);
    return entry;
  }
}
