// The client: what the application calls, and what it hears.

import { within } from "./clock.js";
import { ClosedError, NotConnectedError } from "./errors.js";
import { Emitter, reporter } from "./events.js";
import { bodyText, sendText } from "./fitting.js";
import { checkUser, newId } from "./ids.js";
import { Link } from "./link.js";
import { checkOptions, checkState, checkStatusText } from "./options.js";
import { watchPage } from "./page.js";
import { Pings } from "./pings.js";
import { Presence } from "./presence.js";
import { Receiver } from "./receiver.js";
import { Sender } from "./sender.js";
import { openState } from "./state.js";

/** How long a polite end may take, and the last writing to the storage. */
const LEAVE_MAX_MS = 2000;
/** Ephemeral messages are dropped when the socket holds so much: later they would be worth nothing. */
const EPHEMERAL_BUFFERED_MAX = 1 << 20;

/**
 * @typedef {import("./link.js").ClientState} ClientState
 * @typedef {import("./link.js").Closed} Closed
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
  #link;
  #sender;
  #receiver;
  #presence = new Presence();
  #pings;
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
  #stopWatchingPage = () => {};
  #forgetting = false;
  /** The router has forgotten the device. */
  #forgotten = false;
  /** @type {Promise<void> | undefined} */
  #leaving = undefined;
  /** Why the client ended. @type {Closed | undefined} */
  #closed = undefined;
  /** @type {Promise<Closed>} */
  #end;
  /** @type {(closed: Closed) => void} */
  #resolveEnd = () => {};

  /** @param {import("./options.js").Options} options */
  constructor(options) {
    const setting = checkOptions(options);
    this.#setting = setting;
    this.#report = reporter(setting.onError);
    this.#events = new Emitter(this.#report);
    this.#user = setting.user;
    this.#status = { state: setting.status, text: undefined };
    this.#pings = new Pings(setting.clock);
    this.#link = new Link(setting, this.#report, {
      hello: () => this.#hello(),
      welcomed: (welcome) => this.#welcomed(welcome),
      heard: (frame) => this.#heard(frame),
      sessionEnded: () => this.#sessionEnded(),
      disconnected: (lost) => this.#events.emit("disconnected", lost),
      state: (state, retryInMs) => this.#setState(state, retryInMs),
      over: (closed) => this.#finish(closed),
    });
    this.#sender = new Sender({
      ...setting,
      settled: (settled) => this.#events.emit("settled", settled),
    });
    this.#receiver = new Receiver({
      ...setting,
      report: this.#report,
      sendAck: (seq) => this.#link.session?.connection.send(JSON.stringify({ type: "ack", seq })),
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
    this.#sender.open(stored);
    this.#receiver.open(stored);
    this.#stopWatchingPage = watchPage(this.#setting.page, () => this.#link.wake());
    if (this.#leaving === undefined) this.#link.connect();
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
    const session = this.#link.session;
    if (session === undefined || session.connection.bufferedBytes > EPHEMERAL_BUFFERED_MAX) return false;
    const { text, unfit } = sendText(message, session.limits);
    if (text !== undefined) return session.connection.send(text);
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
    this.#link.sayUsers("watch", this.#presence.watch(checkUsers(users)));
  }

  /** @param {Iterable<string>} users */
  async unwatch(users) {
    this.#mustLive();
    this.#link.sayUsers("unwatch", this.#presence.unwatch(checkUsers(users)));
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
    this.#link.say({ type: "status", ...this.#status });
  }

  /** The time to the router and back, in milliseconds. @returns {Promise<number>} */
  async ping() {
    this.#mustLive();
    if (this.#link.session === undefined) throw new NotConnectedError();
    return this.#pings.send((n) => this.#link.say({ type: "ping", n }));
  }

  /**
   * Logs the device out: the router forgets it, with what only it still lacked, what is stored of it is removed, and
   * the client ends. Without a connection it waits for one.
   */
  async forget() {
    this.#mustLive();
    if (this.#starting === undefined) throw new ClosedError("the client is not started");
    if (!this.#forgetting) {
      this.#forgetting = true;
      this.#sender.pause();
      this.#link.say({ type: "forget" });
    }
    const { message } = await this.#end;
    if (!this.#forgotten) throw new ClosedError(`the client ended before the device was forgotten: ${message}`);
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
    this.#stop("abandoned");
    this.#stored?.abandon();
    this.#resolveEnd(this.#closed);
  }

  #mustLive() {
    if (this.#closed !== undefined || this.#leaving !== undefined) throw new ClosedError();
  }

  // What is said and heard in a session.

  #hello() {
    const { user, window } = this.#setting;
    this.#saidState = this.#status.state;
    return { user, device: this.device, status: this.#saidState, window };
  }

  /**
   * Returns why it cannot be.
   *
   * @param {import("./frames.js").Welcome} welcome
   */
  #welcomed(welcome) {
    const before = this.#stored?.owner ?? this.#user;
    if (before !== undefined && before !== welcome.user) {
      return `the router says that this is ${welcome.user}, it was ${before}`;
    }
    this.#user = welcome.user;
    this.#stored?.own(welcome.user);
    this.#presence.self = welcome.user;
    this.#receiver.connected(welcome.limits.window);
    this.#sayAgain();
    this.#setState("online");
    this.#events.emit("connected", welcome);
    if (welcome.gap) this.#events.emit("gap", undefined);
    this.#letSend();
    return undefined;
  }

  /** What has to hold on every connection. */
  #sayAgain() {
    this.#link.sayUsers("watch", this.#presence.watched);
    const { state, text } = this.#status;
    if (text !== undefined || state !== this.#saidState) this.#link.say({ type: "status", ...this.#status });
    if (this.#forgetting) this.#link.say({ type: "forget" });
  }

  /** A listener may have ended the session meanwhile. */
  #letSend() {
    const session = this.#link.session;
    if (session !== undefined && !this.#forgetting && this.#leaving === undefined) this.#sender.connected(session);
  }

  #sessionEnded() {
    this.#sender.disconnected();
    this.#receiver.disconnected();
    this.#pings.disconnected();
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
      case "pong":
        return this.#pings.answered(frame.n);
      case "error":
        return this.#events.emit("refused", { code: frame.code, reason: frame.reason, ref: frame.ref });
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
    if (reason !== undefined) this.#link.session?.connection.drop({ reason });
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

  // The end.

  async #leave() {
    this.#link.stay();
    await this.#starting?.catch(() => {});
    this.#sender.pause();
    const { clock } = this.#setting;
    // One turn for a handler that has just come to its end.
    await within(clock, this.#receiver.stop(), 0);
    await within(clock, this.#flush(), LEAVE_MAX_MS);
    this.#receiver.ackNow();
    await this.#link.leave(LEAVE_MAX_MS);
    this.#finish({ reason: "done", code: 1000, message: "closed" });
  }

  /** @param {Closed} closed */
  #finish(closed) {
    if (this.#closed !== undefined) return;
    this.#closed = closed;
    this.#forgotten = this.#forgetting && closed.reason === "done" && this.#leaving === undefined;
    this.#stop(closed.message);
    void this.#settle(closed);
  }

  /** @param {string} reason */
  #stop(reason) {
    this.#stopWatchingPage();
    this.#link.stop(reason);
    this.#receiver.close();
  }

  /**
   * Everybody is told after everything is stored.
   *
   * @param {Closed} closed
   */
  async #settle(closed) {
    await within(this.#setting.clock, this.#flush(), LEAVE_MAX_MS);
    this.#sender.close(this.#forgotten);
    await this.#letGo();
    this.#setState("closed");
    this.#events.emit("closed", closed);
    this.#resolveEnd(closed);
  }

  async #flush() {
    // The journal reports what goes wrong.
    await this.#stored?.journal.flush().catch(() => {});
  }

  async #letGo() {
    const end = this.#forgotten ? this.#stored?.remove() : this.#stored?.close();
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
