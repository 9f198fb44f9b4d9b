// Time, chance and a router that do what a test says.

import { Client } from "../../src/index.js";

/** Lets everything happen that needs no timer. */
export async function turn() {
  for (let round = 0; round < 5; round += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class FakeClock {
  #now = 0;
  #timers = new Map();
  #last = 0;
  wallStartMs = 1_795_000_000_000;
  /** By how much timers come too soon, as those of a busy process do. */
  earlyMs = 0;

  now = () => this.#now;
  wallMs = () => this.wallStartMs + this.#now;

  setTimeout = (run, ms) => {
    this.#last += 1;
    this.#timers.set(this.#last, { at: this.#now + Math.max(0, ms - this.earlyMs), run });
    return this.#last;
  };

  clearTimeout = (timer) => {
    this.#timers.delete(timer);
  };

  get waiting() {
    return this.#timers.size;
  }

  /** Everything that is due within `ms` happens, each at its time. */
  async advance(ms) {
    const end = this.#now + ms;
    await turn();
    for (;;) {
      const [first] = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
      if (first === undefined) break;
      const [timer, { at, run }] = first;
      this.#timers.delete(timer);
      this.#now = Math.max(this.#now, at);
      run();
      await turn();
    }
    this.#now = end;
  }

  /** The machine sleeps: time passes, and whatever is due happens at the end of it. */
  async sleep(ms) {
    this.#now += ms;
    await this.advance(0);
  }
}

/** What the client has in its hands: one connection, with the router's side of it. */
export class FakeSocket extends EventTarget {
  readyState = 0;
  bufferedAmount = 0;
  /** What the client said, as frames. */
  sent = [];
  texts = [];
  closedWith = undefined;

  constructor(url, protocols) {
    super();
    this.url = url;
    this.protocols = protocols;
  }

  send(text) {
    if (this.readyState !== 1) throw new Error("sent on a socket that is not open");
    this.texts.push(text);
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    if (this.readyState >= 2) return;
    this.readyState = 2;
    this.closedWith = code ?? null;
  }

  open() {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
  }

  say(frame) {
    this.sayText(JSON.stringify(frame));
  }

  sayText(data) {
    this.dispatchEvent(Object.assign(new Event("message"), { data }));
  }

  /** The connection ends; without a code it breaks. */
  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
  }

  /** What was said since the last call. */
  take(type) {
    const all = this.sent.splice(0);
    return type === undefined ? all : all.filter((frame) => frame.type === type);
  }
}

export const LIMITS = {
  frame_bytes: 131_072,
  body_bytes: 65_536,
  window: 256,
  sends_in_flight: 256,
  heartbeat_ms: 30_000,
};
const EVENTS = "state connected disconnected caughtUp presence ephemeral putOff refused gap closed settled".split(" ");

/** A client with fakes around it, the events it told, and the connections it made. */
export class Bench {
  clock = new FakeClock();
  sockets = [];
  events = [];
  messages = [];
  errors = [];
  poisoned = [];
  random = 0.5;

  constructor(options = {}) {
    const bench = this;
    class Socket extends FakeSocket {
      constructor(...args) {
        super(...args);
        bench.sockets.push(this);
      }
    }
    this.options = {
      url: "ws://router.test/v1/connect",
      user: "me",
      device: "laptop",
      storage: null,
      WebSocket: Socket,
      clock: this.clock,
      random: () => this.random,
      page: {},
      onMessage: (message) => void this.messages.push(message),
      onPoison: (message, error) => void this.poisoned.push({ message, error }),
      onError: (error) => void this.errors.push(error),
      ...options,
    };
    this.client = this.another();
  }

  /** One more client with the same options: a later process, or another tab. */
  another(options = {}) {
    const client = new Client({ ...this.options, ...options });
    for (const name of EVENTS) client.on(name, (payload) => this.events.push([name, payload]));
    return client;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** The payloads of one kind of event. */
  told(name) {
    return this.events.filter(([kind]) => kind === name).map(([, payload]) => payload);
  }

  async start(welcome = {}) {
    await this.client.start();
    return this.welcome(welcome);
  }

  /** The newest connection is accepted, and the session begins. */
  async welcome({ limits, ...fields } = {}) {
    await turn();
    this.socket.open();
    const hello = this.socket.sent[0];
    this.socket.say({
      type: "welcome",
      user: hello.user ?? "me",
      device: hello.device,
      session: "01KAW3A0C5W2V8T6K9Q4ZJ7XYM",
      protocol: 1,
      server: "fake",
      registered: false,
      pending: 0,
      cursor: 0,
      limits: { ...LIMITS, ...limits },
      ...fields,
    });
    await turn();
    return this.socket;
  }

  /** Ends the connection and goes on to the next session. */
  async reconnect(code, welcome) {
    const before = this.sockets.length;
    this.socket.end(code);
    await this.clock.advance(this.told("disconnected").at(-1).retryInMs);
    if (this.sockets.length !== before + 1) throw new Error(`${this.sockets.length - before} connections`);
    return this.welcome(welcome);
  }
}

/** A durable message from alice. */
export function message(seq, fields = {}) {
  return { type: "message", seq, id: `m${seq}`, from: "alice", ts_ms: 1, body: seq, ...fields };
}

/** What becomes of a promise, without waiting for it. */
export function outcome(promise) {
  const result = { value: undefined, error: undefined, isSettled: false };
  promise.then(
    (value) => Object.assign(result, { value, isSettled: true }),
    (error) => Object.assign(result, { error, isSettled: true }),
  );
  return result;
}

/** A promise with its ends outside. */
export function deferred() {
  const ends = {};
  ends.promise = new Promise((resolve, reject) => Object.assign(ends, { resolve, reject }));
  return ends;
}
