// From one connection to the next: when to connect, with which token, when to come back, and when not to.

import { Backoff } from "./backoff.js";
import { Timer, within } from "./clock.js";
import { advice } from "./closecodes.js";
import { Connection } from "./connection.js";
import { portions } from "./fitting.js";
import { Tokens } from "./tokens.js";

/** A session that lasted so long was a good one: the next back-off starts small again. */
const GOOD_SESSION_MS = 10_000;
/** A router that lets so much pile up does not read. */
const BUFFERED_MAX = 16 << 20;

/**
 * @typedef {"connecting" | "online" | "waiting" | "closed"} ClientState
 *
 * @typedef {object} Closed
 * @property {"done" | "refused" | "not_authenticated" | "impossible"} reason
 * @property {number} [code] the close code, where there was one
 * @property {string} message for people
 *
 * @typedef {{ connection: Connection, limits: import("./frames.js").Limits, beganAt: number }} Session
 *
 * @typedef {object} Hooks
 * @property {() => object} hello what is said first, without the token
 * @property {(welcome: import("./frames.js").Welcome) => string | undefined} welcomed returns why it cannot be
 * @property {(frame: Record<string, any>) => void} heard
 * @property {() => void} sessionEnded
 * @property {(lost: { code?: number, reason: string, retryInMs: number }) => void} disconnected
 * @property {(state: ClientState, retryInMs?: number) => void} state
 * @property {(closed: Closed) => void} over it will not come back
 */

export class Link {
  #setting;
  #hooks;
  #report;
  #tokens;
  #backoff;
  #connectTimer;
  #retryTimer;
  /** The router said when to come back, so nothing may shorten that. */
  #routerNamedTime = false;
  /** The connection that is, or is being made. @type {Connection | undefined} */
  #connection = undefined;
  /** @type {Session | undefined} */
  #session = undefined;
  /** Tells an attempt to connect from the next one. */
  #attempt = {};
  #stopped = false;
  /** Says that a connection that is being closed has ended. */
  #left = () => {};

  /**
   * @param {ReturnType<typeof import("./options.js").checkOptions>} setting
   * @param {(error: unknown) => void} report
   * @param {Hooks} hooks
   */
  constructor(setting, report, hooks) {
    const { clock, random } = setting;
    this.#setting = setting;
    this.#hooks = hooks;
    this.#report = report;
    this.#backoff = new Backoff(setting.backoffMinMs, setting.backoffMaxMs, random);
    this.#connectTimer = new Timer(clock, () => this.#attemptFailed("connecting took too long"));
    this.#retryTimer = new Timer(clock, () => this.connect());
    const say = (/** @type {string} */ token) => this.say({ type: "token", token });
    this.#tokens = new Tokens({ provider: setting.token, clock, random, say, report });
  }

  /** What holds while the router is there. */
  get session() {
    return this.#session;
  }

  connect() {
    this.#retryTimer.clear();
    if (this.#stopped) return;
    const attempt = {};
    this.#attempt = attempt;
    this.#connectTimer.set(this.#setting.connectTimeoutMs);
    this.#hooks.state("connecting");
    if (this.#attempt !== attempt || this.#stopped) return;
    if (!this.#tokens.areUsed) return this.#dial(undefined);
    this.#tokens.next().then(
      (token) => {
        if (this.#attempt !== attempt) return;
        if (token !== undefined) this.#dial(token);
        else this.#end({ reason: "not_authenticated", message: "there is no token that the router could accept" });
      },
      (error) => {
        if (this.#attempt !== attempt) return;
        this.#report(error);
        this.#attemptFailed("the token provider failed");
      },
    );
  }

  /** @param {string | undefined} token */
  #dial(token) {
    const { url, WebSocket, clock, random } = this.#setting;
    const hello = JSON.stringify({ type: "hello", token, ...this.#hooks.hello() });
    try {
      const listener = {
        welcomed: this.#welcomed.bind(this),
        heard: this.#heard.bind(this),
        ended: this.#ended.bind(this),
      };
      this.#connection = new Connection({ WebSocket, url, hello, clock, random, listener });
    } catch (error) {
      // A page with TLS may not connect without, and such; no attempt would end in another way.
      this.#end({ reason: "impossible", message: String(error) });
    }
  }

  /** @param {string} reason */
  #attemptFailed(reason) {
    if (this.#connection !== undefined) this.#connection.drop({ reason });
    else this.#ended({ reason });
  }

  /** @param {import("./frames.js").Welcome} welcome */
  #welcomed(welcome) {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connectTimer.clear();
    this.#tokens.welcomed(welcome.expiresMs);
    this.#session = { connection, limits: welcome.limits, beganAt: this.#setting.clock.now() };
    const message = this.#hooks.welcomed(welcome);
    if (message === undefined) return;
    this.stay();
    connection.leave(message);
    this.#end({ reason: "impossible", message });
  }

  /** @param {Record<string, any>} frame */
  #heard(frame) {
    if (frame.type === "token_ok") return this.#tokens.renewed(frame.expires_ms);
    if (frame.type === "error" && frame.ref === "token") this.#tokens.renewalFailed();
    this.#hooks.heard(frame);
  }

  /** @param {import("./connection.js").Ended} ended */
  #ended({ code, reason, retryAfterMs }) {
    this.#connectionEnded();
    this.#left();
    if (this.#stopped) return;
    const closed = this.#verdict(code, reason);
    if (closed !== undefined) return this.#end(closed);
    const retryInMs = this.#backoff.next(retryAfterMs);
    this.#routerNamedTime = retryAfterMs !== undefined;
    this.#retryTimer.set(retryInMs);
    this.#hooks.disconnected({ code, reason, retryInMs });
    if (this.#retryTimer.isSet) this.#hooks.state("waiting", retryInMs);
  }

  #connectionEnded() {
    const session = this.#session;
    this.#attempt = {};
    this.#connectTimer.clear();
    this.#connection = undefined;
    this.#session = undefined;
    if (session === undefined) return;
    if (this.#setting.clock.now() - session.beganAt >= GOOD_SESSION_MS) this.#backoff.reset();
    this.#tokens.disconnected();
    this.#hooks.sessionEnded();
  }

  /**
   * Whether an end is final.
   *
   * @param {number | undefined} code
   * @param {string} message
   * @returns {Closed | undefined}
   */
  #verdict(code, message) {
    switch (advice(code)) {
      case "done":
        return { reason: "done", code, message };
      case "stop":
        return { reason: "refused", code, message };
      case "new_token":
        return this.#tokens.refused() ? undefined : { reason: "not_authenticated", code, message };
      case "retry":
        return undefined;
    }
  }

  /** @param {Closed} closed */
  #end(closed) {
    this.stop(closed.message);
    this.#hooks.over(closed);
  }

  /** The network is back, or the user looks: no need to wait out a back-off, and a session may be dead. */
  wake() {
    if (this.#session !== undefined) this.#connection?.probe(this.#setting.connectTimeoutMs);
    else if (this.#retryTimer.isSet && !this.#routerNamedTime) this.connect();
  }

  /**
   * Says something to the router that is there. What matters is said again at the start of the next session.
   *
   * @param {Record<string, unknown>} frame
   */
  say(frame) {
    if (this.#session === undefined) return;
    const { connection, limits } = this.#session;
    if (connection.bufferedBytes <= BUFFERED_MAX + limits.frameBytes) connection.send(JSON.stringify(frame));
    else connection.drop({ reason: "the router does not read" });
  }

  /**
   * @param {"watch" | "unwatch"} type
   * @param {string[]} users
   */
  sayUsers(type, users) {
    if (this.#session === undefined) return;
    for (const portion of portions(users, this.#session.limits.frameBytes)) this.say({ type, users: portion });
  }

  /** It does not come back by itself any more. */
  stay() {
    this.#stopped = true;
    this.#retryTimer.clear();
  }

  /**
   * The polite end of a session. What the router says before it closes too is still heard.
   *
   * @param {number} maxMs how long it may take
   */
  async leave(maxMs) {
    const connection = this.#connection;
    if (this.#session === undefined || connection === undefined) return;
    const left = new Promise((resolve) => {
      this.#left = () => resolve(undefined);
    });
    connection.close();
    await within(this.#setting.clock, left, maxMs);
  }

  /**
   * The end, at once.
   *
   * @param {string} reason
   */
  stop(reason) {
    this.stay();
    this.#connection?.drop({ reason });
    this.#connectionEnded();
  }
}
