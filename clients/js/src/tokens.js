// The token: asked for before each connection, and renewed in time while one lasts.

import { Backoff } from "./backoff.js";
import { Timer } from "./clock.js";

/** How long before its end a token is renewed, at most. */
const LEAD_MS = 60_000;
/** Between attempts at a new token, at least. */
const PAUSE_MS = 1000;
/** What attempts in vain add to the pause, at most: a provider that is down has many clients. */
const PAUSE_MAX_MS = 15_000;

/**
 * @typedef {string | null | undefined} MaybeToken
 *
 * @typedef {(asked: { refused: boolean }) => MaybeToken | Promise<MaybeToken>} TokenProvider
 * `refused`: the router did not accept the token that was given last, and it is of no use to give it again.
 */

export class Tokens {
  #provider;
  #clock;
  #say;
  #report;
  #timer;
  #backoff;
  /** The token that holds for the connection that is, or the one shown last for one. @type {string | undefined} */
  #current = undefined;
  /** With it the last connection was refused, and none was welcomed since. @type {string | undefined} */
  #refused = undefined;
  /** A renewal that the router has not answered. @type {string | undefined} */
  #shown = undefined;
  /** Tells one connection from the next. */
  #session = {};

  /**
   * @param {object} setting
   * @param {TokenProvider | undefined} setting.provider
   * @param {import("./clock.js").Clock} setting.clock
   * @param {() => number} setting.random
   * @param {(token: string) => void} setting.say shows the router a new one
   * @param {(error: unknown) => void} setting.report
   */
  constructor({ provider, clock, random, say, report }) {
    this.#provider = provider;
    this.#clock = clock;
    this.#say = say;
    this.#report = report;
    this.#timer = new Timer(clock, () => void this.#renew());
    this.#backoff = new Backoff(PAUSE_MS, PAUSE_MAX_MS, random);
  }

  get areUsed() {
    return this.#provider !== undefined;
  }

  /** The token for a new connection; nothing when there is none that could be accepted. */
  async next() {
    const token = await this.#ask();
    if (token === undefined || token === this.#refused) return undefined;
    this.#current = token;
    return token;
  }

  async #ask() {
    const token = await this.#provider?.({ refused: this.#refused !== undefined });
    return typeof token === "string" && token !== "" ? token : undefined;
  }

  /** The router did not accept what it was shown. False when there is no other to be had. */
  refused() {
    this.#refused = this.#current;
    return this.#provider !== undefined;
  }

  /** @param {number | undefined} expiresMs when the token ends, by the wall clock */
  welcomed(expiresMs) {
    this.#refused = undefined;
    this.#session = {};
    this.#schedule(expiresMs);
  }

  disconnected() {
    this.#session = {};
    this.#shown = undefined;
    this.#timer.clear();
  }

  /** @param {number | undefined} expiresMs */
  renewed(expiresMs) {
    this.#current = this.#shown ?? this.#current;
    this.#shown = undefined;
    this.#schedule(expiresMs);
  }

  /** The router did not like the new one; the session goes on with the old one. What is wrong may pass. */
  renewalFailed() {
    if (this.#shown === undefined) return;
    this.#shown = undefined;
    this.#renewLater();
  }

  /** @param {number | undefined} expiresMs */
  #schedule(expiresMs) {
    if (expiresMs === undefined || this.#provider === undefined) return;
    const leftMs = expiresMs - this.#clock.wallMs();
    // The clocks differ, and every token looks like this.
    if (leftMs <= 0) return this.#renewLater();
    this.#backoff.reset();
    this.#timer.set(Math.max(leftMs - Math.min(LEAD_MS, leftMs / 2), PAUSE_MS));
  }

  /** Tries again for as long as the session lasts. */
  #renewLater() {
    this.#timer.set(PAUSE_MS + this.#backoff.next());
  }

  async #renew() {
    const session = this.#session;
    /** @type {string | undefined} */
    let token;
    try {
      token = await this.#ask();
    } catch (error) {
      this.#report(error);
    }
    if (session !== this.#session) return;
    // The provider may have no newer one yet.
    if (token === undefined || token === this.#current) return this.#renewLater();
    this.#shown = token;
    this.#say(token);
  }
}
