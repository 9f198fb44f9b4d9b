// The client: what the application calls, and the way from one connection to the next.

import { Backoff } from "./backoff.js";
import { Timer, within } from "./clock.js";
import { advice } from "./closecodes.js";
import { Connection } from "./connection.js";
import { ClosedError, NotConnectedError } from "./errors.js";
import { Emitter, reporter } from "./events.js";
import { bodyText, portions, sendText } from "./fitting.js";
import { checkUser, newId } from "./ids.js";
import { checkOptions, checkState, checkStatusText } from "./options.js";
import { watchPage } from "./page.js";
import { Pings } from "./pings.js";
import { Presence } from "./presence.js";
import { Receiver } from "./receiver.js";
import { Sender } from "./sender.js";
import { keeps, openState } from "./state.js";
import { Tokens } from "./tokens.js";

/** A session that lasted so long was a good one: the next back-off starts small again. */
const GOOD_SESSION_MS = 10_000;
/** How long a polite end may take, and the last writing to the storage. */
const LEAVE_MAX_MS = 2000;
/** Ephemeral messages are dropped when the socket holds so much: later they would be worth nothing. */
const EPHEMERAL_BUFFERED_MAX = 1 << 20;
/** A router that lets so much pile up does not read. */
const CONTROL_BUFFERED_MAX = 16 << 20;
/** Without `sendTimeoutMs` and a storage. */
const SEND_TIMEOUT_MS = 30_000;

/**
 * @typedef {"connecting" | "online" | "waiting" | "closed"} ClientState
 *
 * @typedef {object} Closed
 * @property {"done" | "refused" | "not_authenticated" | "impossible"} reason
 * @property {number} [code] the close code, where there was one
 * @property {string} message for people
 *
 * @typedef {object} Events
 * @property {{ state: ClientState, retryInMs?: number }} state
 * @property {import("./frames.js").Welcome} connected
 * @property {{ code?: number, reason: string, retryInMs: number }} disconnected
 * @property {{ seq: number }} caughtUp
 * @property {import("./presence.js").PresenceEntry[]} presence
 * @property {{ from: string, body: any, tsMs: number }} ephemeral
 * @property {{ id: string, to: string, code: string, reason: string }} putOff
 * @property {{ code: string, reason: string, ref?: string }} refused
 * @property {undefined} gap
 * @property {Closed} closed
 * @property {import("./sender.js").Settled} settled
 */

export class Client {
  #setting;
  #report;
  /** @type {Emitter<Events>} */
  #events;
  #sender;
  #receiver;
  #presence = new Presence();
  #tokens;
  #pings;
  #backoff;
  /** @type {{ state: import("./presence.js").OwnState, text: string | undefined }} */
  #status;
  /** What the `hello` of this connection said. */
  #saidState = "";
  /** @type {ClientState} */
  #state = "waiting";
  /** @type {Promise<void> | undefined} */
  #starting = undefined;
  /** @type {import("./state.js").State | undefined} */
  #stored = undefined;
  /** @type {string | undefined} */
  #user;
  /** The connection that is, or is being made. @type {Connection | undefined} */
  #connection = undefined;
  /** The limits of the session that is. @type {import("./frames.js").Limits | undefined} */
  #limits = undefined;
  #sessionBeganAt = 0;
  /** Tells an attempt to connect from the next one. */
  #attempt = {};
  #connectTimer;
  #retryTimer;
  /** The router said when to come back, so nothing may shorten that. */
  #routerNamedTime = false;
  #stopWatchingPage = () => {};
  #forgetting = false;
  /** @type {Promise<void> | undefined} */
  #leaving = undefined;
  /** Resolves when a connection that is being closed has ended. */
  #left = () => {};
  /** Why the client ended. @type {Closed | undefined} */
  #closed = undefined;
  /** @type {Promise<Closed>} */
  #end;
  /** @type {(closed: Closed) => void} */
  #resolveEnd = () => {};

  /** @param {import("./options.js").Options} options */
  constructor(options) {
    const setting = checkOptions(options);
    const { clock, random } = setting;
    this.#setting = setting;
    this.#report = reporter(setting.onError);
    this.#events = new Emitter(this.#report);
    this.#user = setting.user;
    this.#status = { state: setting.status, text: undefined };
    this.#backoff = new Backoff(setting.backoffMinMs, setting.backoffMaxMs, random);
    this.#connectTimer = new Timer(clock, () => this.#attemptFailed("connecting took too long"));
    this.#retryTimer = new Timer(clock, () => this.#connect());
    this.#pings = new Pings(clock);
    this.#tokens = new Tokens({
      provider: setting.token,
      clock,
      random,
      say: (token) => this.#say({ type: "token", token }),
      report: this.#report,
    });
    this.#sender = new Sender({
      ...setting,
      sendTimeoutMs: setting.sendTimeoutMs ?? (keeps(setting) ? Infinity : SEND_TIMEOUT_MS),
      keeps: keeps(setting),
      settled: (settled) => this.#events.emit("settled", settled),
    });
    this.#receiver = new Receiver({
      ...setting,
      report: this.#report,
      sendAck: (seq) => this.#connection?.send(JSON.stringify({ type: "ack", seq })),
    });
    this.#end = new Promise((resolve) => {
      this.#resolveEnd = resolve;
    });
  }

  /** Who this is, as far as it is known. @returns {string | undefined} */
  get user() {
    return this.#user;
  }

  /** Known once `start` has resolved. @returns {string | undefined} */
  get device() {
    return this.#stored?.device ?? this.#setting.device;
  }

  get state() {
    return this.#state;
  }

  /**
   * @template {keyof Events} K
   * @param {K} name
   * @param {(payload: Events[K]) => void} listener
   * @returns {() => void} takes the listener away
   */
  on(name, listener) {
    return this.#events.on(name, listener);
  }

  /**
   * @template {keyof Events} K
   * @param {K} name
   * @param {(payload: Events[K]) => void} listener
   */
  off(name, listener) {
    this.#events.off(name, listener);
  }

  /**
   * Loads what is stored and begins to connect. Resolves when the storage and the name of the device are there,
   * whether the router can be reached or not.
   *
   * @returns {Promise<void>}
   */
  start() {
    if (this.#closed !== undefined) return Promise.reject(new ClosedError());
    this.#starting ??= this.#start().catch((error) => {
      this.#starting = undefined;
      this.#sender.openFailed(error);
      throw error;
    });
    return this.#starting;
  }

  async #start() {
    const stored = await openState(this.#setting, this.#report);
    this.#stored = stored;
    if (this.#closed !== undefined) {
      await this.#letGo();
      throw new ClosedError();
    }
    this.#sender.open(stored.journal, stored.outbox);
    this.#receiver.open(stored.journal, stored.records);
    this.#stopWatchingPage = watchPage(this.#setting.page, () => this.#wake());
    if (this.#leaving === undefined) this.#connect();
  }

  /**
   * Sends a message. Resolves when it is safe: on the router's disk, or with every device of the recipient.
   *
   * @param {string} to
   * @param {unknown} body any JSON value
   * @param {import("./sender.js").SendOptions} [options]
   * @returns {Promise<import("./outbox.js").Accepted>} rejects with `SendError`
   */
  async send(to, body, options) {
    this.#mustLive();
    if (this.#starting === undefined) throw new ClosedError("the client is not started");
    return this.#sender.send(to, body, options ?? {});
  }

  /** A name for a message. */
  newId() {
    return newId();
  }

  /** What has no answer yet, in order, what was sent before a reload too. */
  outbox() {
    return this.#sender.unanswered;
  }

  /**
   * Sends something that only live sessions get, and only when they have room: typing, cursors.
   *
   * @param {string} to
   * @param {unknown} body
   * @returns {Promise<boolean>} whether it went out; nobody says whether it arrived
   */
  async ephemeral(to, body) {
    this.#mustLive();
    const message = { to: checkUser(to), body: bodyText(body), ephemeral: true };
    const [connection, limits] = [this.#connection, this.#limits];
    if (connection === undefined || limits === undefined || connection.bufferedBytes > EPHEMERAL_BUFFERED_MAX) return false;
    const { text, unfit } = sendText(message, limits);
    if (text !== undefined) return connection.send(text);
    this.#events.emit("refused", { ...unfit, ref: to });
    return false;
  }

  /**
   * Asks for the presence of `users` and for every change of it, also on later connections.
   *
   * @param {Iterable<string>} users
   */
  async watch(users) {
    this.#mustLive();
    this.#sayUsers("watch", this.#presence.watch(checkUsers(users)));
  }

  /** @param {Iterable<string>} users */
  async unwatch(users) {
    this.#mustLive();
    this.#sayUsers("unwatch", this.#presence.unwatch(checkUsers(users)));
  }

  /**
   * The last that is known of a user who is watched, or of oneself.
   *
   * @param {string} user
   */
  presence(user) {
    return this.#presence.known(user);
  }

  /**
   * Says how available this session is, also on later connections.
   *
   * @param {import("./presence.js").OwnState} state
   * @param {string} [text] at most 140 characters
   */
  async setStatus(state, text) {
    this.#mustLive();
    this.#status = { state: checkState(state), text: checkStatusText(text) };
    this.#say({ type: "status", ...this.#status });
  }

  /** The time to the router and back, in milliseconds. @returns {Promise<number>} */
  async ping() {
    this.#mustLive();
    if (this.#limits === undefined) throw new NotConnectedError();
    return this.#pings.send((n) => this.#say({ type: "ping", n }));
  }

  /**
   * Logs the device out: the router forgets it, with what only it still lacked, what is stored of it is removed, and the
   * client ends. Without a connection it waits for one.
   */
  async forget() {
    this.#mustLive();
    if (!this.#forgetting) {
      this.#forgetting = true;
      this.#sender.pause();
      this.#say({ type: "forget" });
    }
    const closed = await this.#end;
    if (closed.reason !== "done" || this.#leaving !== undefined) {
      throw new ClosedError(`the client ended before the device was forgotten: ${closed.message}`);
    }
  }

  /** Acks what is done, says goodbye and ends. What has no answer is kept in the storage, or fails. */
  async close() {
    if (this.#closed === undefined) this.#leaving ??= this.#leave();
    await this.#end;
  }

  /**
   * Drops everything as if the process had ended at this moment: no close frame, no ack, no event. For tests of what an
   * application does then.
   */
  abandon() {
    if (this.#closed !== undefined) return;
    this.#closed = { reason: "done", message: "abandoned" };
    this.#state = "closed";
    this.#sender.abandon();
    this.#stopEverything("abandoned");
    this.#stored?.abandon();
    this.#resolveEnd(this.#closed);
  }

  #mustLive() {
    if (this.#closed !== undefined || this.#leaving !== undefined) throw new ClosedError();
  }

  // From one connection to the next.

  #connect() {
    this.#retryTimer.clear();
    this.#setState("connecting");
    if (this.#closed !== undefined || this.#leaving !== undefined) return;
    const attempt = {};
    this.#attempt = attempt;
    this.#connectTimer.set(this.#setting.connectTimeoutMs);
    if (!this.#tokens.areUsed) return this.#dial(undefined);
    this.#tokens.next().then(
      (token) => {
        if (this.#attempt !== attempt) return;
        if (token !== undefined) this.#dial(token);
        else this.#finish({ reason: "not_authenticated", message: "there is no token that the router could accept" });
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
    const { user, url, window, WebSocket, clock, random } = this.#setting;
    this.#saidState = this.#status.state;
    const hello = { type: "hello", token, user, device: this.device, status: this.#saidState, window };
    try {
      this.#connection = new Connection({
        WebSocket,
        url,
        hello: JSON.stringify(hello),
        clock,
        random,
        listener: {
          welcomed: (welcome) => this.#welcomed(welcome),
          heard: (frame) => this.#heard(frame),
          ended: (ended) => this.#ended(ended),
        },
      });
    } catch (error) {
      // A page with TLS may not connect without, and such; no attempt would end in another way.
      this.#report(error);
      this.#finish({ reason: "impossible", message: String(error) });
    }
  }

  /** @param {string} reason */
  #attemptFailed(reason) {
    if (this.#connection !== undefined) this.#connection.drop({ reason });
    else this.#ended({ reason });
  }

  /** @param {import("./frames.js").Welcome} welcome */
  #welcomed(welcome) {
    this.#connectTimer.clear();
    const before = this.#stored?.owner ?? this.#user;
    if (before !== undefined && before !== welcome.user) {
      const message = `the router says that this is ${welcome.user}, it was ${before}`;
      return this.#finish({ reason: "impossible", message });
    }
    this.#user = welcome.user;
    this.#stored?.own(welcome.user);
    this.#presence.self = welcome.user;
    this.#limits = welcome.limits;
    this.#sessionBeganAt = this.#setting.clock.now();
    this.#tokens.welcomed(welcome.expiresMs);
    this.#receiver.connected(welcome.limits.window);
    this.#sayAgain();
    this.#setState("online");
    this.#events.emit("connected", welcome);
    if (welcome.gap) this.#events.emit("gap", undefined);
    this.#letSend();
  }

  /** What has to hold on every connection. */
  #sayAgain() {
    this.#sayUsers("watch", this.#presence.watched);
    const { state, text } = this.#status;
    if (text !== undefined || state !== this.#saidState) this.#say({ type: "status", ...this.#status });
    if (this.#forgetting) this.#say({ type: "forget" });
  }

  /** A listener may have ended the session meanwhile. */
  #letSend() {
    const [connection, limits] = [this.#connection, this.#limits];
    if (connection === undefined || limits === undefined || this.#forgetting || this.#leaving !== undefined) return;
    this.#sender.connected({ connection, limits });
  }

  /** @param {import("./connection.js").Ended} ended */
  #ended(ended) {
    this.#sessionEnded();
    if (this.#closed !== undefined) return;
    if (this.#leaving !== undefined) return this.#left();
    const closed = this.#verdict(ended);
    if (closed !== undefined) return this.#finish(closed);
    const retryInMs = this.#backoff.next(ended.retryAfterMs);
    this.#routerNamedTime = ended.retryAfterMs !== undefined;
    this.#retryTimer.set(retryInMs);
    this.#events.emit("disconnected", { code: ended.code, reason: ended.reason, retryInMs });
    if (this.#retryTimer.isSet) this.#setState("waiting", retryInMs);
  }

  #sessionEnded() {
    this.#attempt = {};
    this.#connectTimer.clear();
    this.#connection = undefined;
    if (this.#limits === undefined) return;
    this.#limits = undefined;
    if (this.#setting.clock.now() - this.#sessionBeganAt >= GOOD_SESSION_MS) this.#backoff.reset();
    this.#sender.disconnected();
    this.#receiver.disconnected();
    this.#tokens.disconnected();
    this.#pings.disconnected();
  }

  /**
   * Whether an end is final.
   *
   * @param {import("./connection.js").Ended} ended
   * @returns {Closed | undefined}
   */
  #verdict({ code, reason: message }) {
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

  /** The network is back, or the user looks: no need to wait out a back-off, and a session may be dead. */
  #wake() {
    if (this.#limits !== undefined) this.#connection?.probe(this.#setting.connectTimeoutMs);
    else if (this.#retryTimer.isSet && !this.#routerNamedTime) this.#connect();
  }

  // What is said and heard in a session.

  /** @param {Record<string, unknown>} frame */
  #say(frame) {
    const [connection, limits] = [this.#connection, this.#limits];
    if (connection === undefined || limits === undefined) return;
    if (connection.bufferedBytes > CONTROL_BUFFERED_MAX + limits.frameBytes) {
      return connection.drop({ reason: "the router does not read" });
    }
    connection.send(JSON.stringify(frame));
  }

  /**
   * @param {"watch" | "unwatch"} type
   * @param {string[]} users
   */
  #sayUsers(type, users) {
    if (this.#limits === undefined) return;
    for (const portion of portions(users, this.#limits.frameBytes)) this.#say({ type, users: portion });
  }

  /** @param {Record<string, any>} frame */
  #heard(frame) {
    switch (frame.type) {
      case "message":
        return this.#heardMessage(frame);
      case "accepted":
        return this.#sender.accepted(frame);
      case "rejected":
        return this.#heardRejected(frame);
      case "caught_up":
        return this.#receiver.afterAll(() => this.#events.emit("caughtUp", { seq: frame.seq }));
      case "presence":
        return this.#heardPresence(frame);
      case "token_ok":
        return this.#tokens.renewed(frame.expires_ms);
      case "pong":
        return this.#pings.answered(frame.n);
      case "error":
        return this.#heardError(frame);
    }
  }

  /** @param {Record<string, any>} frame */
  #heardMessage(frame) {
    if (frame.seq === undefined) {
      // One that cannot be read is worth nothing.
      if (frame.bodyError !== undefined || this.#leaving !== undefined) return;
      return this.#events.emit("ephemeral", { from: frame.from, body: frame.body, tsMs: frame.ts_ms });
    }
    const reason = this.#receiver.message(frame);
    if (reason !== undefined) this.#connection?.drop({ reason });
  }

  /** @param {Record<string, any>} frame */
  #heardRejected(frame) {
    const { known, news } = this.#sender.rejected(frame);
    const { code, reason } = frame;
    if (news !== undefined) this.#events.emit("putOff", { id: news.id, to: news.to, code, reason });
    // What belongs to no durable send belongs to an ephemeral one.
    else if (!known && frame.id === undefined) this.#events.emit("refused", { code, reason, ref: frame.to });
  }

  /** @param {Record<string, any>} frame */
  #heardPresence(frame) {
    const news = this.#presence.learn(frame.users);
    if (news.length > 0) this.#events.emit("presence", news);
  }

  /** @param {Record<string, any>} frame */
  #heardError({ code, reason, ref }) {
    if (ref === "token") this.#tokens.renewalFailed();
    this.#events.emit("refused", { code, reason, ref });
  }

  // The end.

  async #leave() {
    this.#retryTimer.clear();
    await this.#starting?.catch(() => {});
    this.#sender.pause();
    const { clock } = this.#setting;
    // One turn for a handler that has just come to its end.
    await within(clock, this.#receiver.stop(), 0);
    if (this.#limits !== undefined) {
      await within(clock, this.#flush(), LEAVE_MAX_MS);
      const left = new Promise((resolve) => {
        this.#left = () => resolve(undefined);
      });
      this.#receiver.ackNow();
      this.#connection?.close();
      if (this.#connection !== undefined) await within(clock, left, LEAVE_MAX_MS);
    }
    this.#finish({ reason: "done", code: 1000, message: "closed" });
  }

  /** @param {Closed} closed */
  #finish(closed) {
    if (this.#closed !== undefined) return;
    this.#closed = closed;
    const forgotten = this.#forgetting && closed.reason === "done" && this.#leaving === undefined;
    this.#stopEverything(closed.message);
    void this.#settle(closed, forgotten);
  }

  /** @param {string} reason */
  #stopEverything(reason) {
    this.#retryTimer.clear();
    this.#stopWatchingPage();
    this.#connection?.drop({ reason });
    this.#sessionEnded();
    this.#receiver.close();
  }

  /**
   * Everybody is told after everything is stored.
   *
   * @param {Closed} closed
   * @param {boolean} forgotten
   */
  async #settle(closed, forgotten) {
    await within(this.#setting.clock, this.#flush(), LEAVE_MAX_MS);
    this.#sender.close(forgotten);
    await this.#letGo(forgotten);
    this.#setState("closed");
    this.#events.emit("closed", closed);
    this.#resolveEnd(closed);
  }

  async #flush() {
    // The journal reports what goes wrong.
    await this.#stored?.journal.flush().catch(() => {});
  }

  async #letGo(forgotten = false) {
    const end = forgotten ? this.#stored?.remove() : this.#stored?.close();
    const ended = end?.catch(this.#report) ?? Promise.resolve();
    await within(this.#setting.clock, ended, LEAVE_MAX_MS);
  }

  /**
   * @param {ClientState} state
   * @param {number} [retryInMs]
   */
  #setState(state, retryInMs) {
    if (this.#state === state && retryInMs === undefined) return;
    this.#state = state;
    this.#events.emit("state", retryInMs === undefined ? { state } : { state, retryInMs });
  }
}

/** @param {Iterable<string>} users */
function checkUsers(users) {
  if (typeof users === "string") throw new TypeError("users must be a list of names");
  return [...users].map(checkUser);
}
