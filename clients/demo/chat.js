// One person's chat: the client, what is kept, and what other tabs of the same person do. It knows nothing of the page.

import { Client } from "/client/index.js";
import { Archive } from "./archive.js";

/** @typedef {import("./archive.js").Entry} Entry */
/** @typedef {{ state: string, text?: string, lastSeenMs?: number }} Presence */
/** @typedef {{ name: string, addedMs: number, last: Entry | null, unread: number, typingUntilMs: number }} Person */
/** @typedef {"online" | "away" | "busy" | "invisible"} Status */
/**
 * @typedef {object} Connection
 * @property {"connecting" | "online" | "waiting" | "closed"} state
 * @property {number} [retryAtMs]
 * @property {number} [code] of the close
 * @property {string} [reason]
 * @property {string} [message]
 */
/**
 * @typedef {object} Happenings What a chat tells.
 * @property {(entry: Entry, isNew: boolean, isFromHere: boolean) => void} entry a message came, was written (in this tab or another), or moved on
 * @property {() => void} people
 * @property {(connection: Connection) => void} connection
 * @property {(waited: { messages: number, people: number }) => void} caughtUp
 * @property {(text: string) => void} note something that concerns the chat as a whole
 */

/** How long "is typing" holds, and how often it is said again. */
const TYPING_MS = 6000;
const TYPING_AGAIN_MS = 3000;
/** Ids in one message that says that they were read. */
const SEEN_MAX = 200;
/**
 * A message says that its sender would like to know when it was read. Who does not ask, such as a program in a terminal,
 * would have no use for the answer.
 */
const WANTS = "seen";
/** A send that was cut off by a reload is repeated within this time: the router recognises it for an hour. */
const REPEAT_MS = 30 * 60_000;

export class Chat {
  /** @type {Map<string, Person>} */
  people = new Map();
  /** @type {Connection} */
  connection = { state: "connecting" };
  bodyMaxBytes = 65_536;
  #typedAtMs = 0;
  #lastPlace = 0;
  #isRestarting = false;
  /** What waits at the start of a connection ends at this seq; null until that is known. @type {number | null} */
  #caughtUpSeq = null;
  #batch = "";
  #waited = { messages: 0, people: /** @type {Set<string>} */ (new Set()) };

  /**
   * @param {string} me
   * @param {Archive} archive
   * @param {{ state: Status, text: string }} status
   * @param {Happenings} tell
   */
  constructor(me, archive, status, tell) {
    this.me = me;
    this.archive = archive;
    this.status = status;
    this.tell = tell;
    this.tabs = new BroadcastChannel(`doorstep-chat:${me}`);
    this.tabs.onmessage = ({ data }) => void this.#hearTab(data);
    this.client = this.#makeClient();
  }

  /**
   * @param {string} me
   * @param {{ state: Status, text: string }} status
   * @param {Happenings} tell
   */
  static async open(me, status, tell) {
    const chat = new Chat(me, await Archive.open(me), status, tell);
    for (const person of await chat.archive.people()) chat.people.set(person.name, { ...person, typingUntilMs: 0 });
    return chat;
  }

  #makeClient() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const client = new Client({
      url: `${scheme}://${location.host}/v1/connect`,
      user: this.me,
      status: this.status.state,
      // What one wrote waits for the router for as long as it takes.
      sendTimeoutMs: Infinity,
      backoffMaxMs: 15_000,
      onMessage: (message) => this.#take(message),
      onPoison: (message, error) => {
        console.error("a message could not be kept", error);
        this.tell.note(`A message from ${message.from} could not be kept in this browser.`);
      },
    });
    client.on("state", ({ state, retryInMs }) => {
      if (client !== this.client || state === "closed") return;
      this.#become({ state, retryAtMs: retryInMs === undefined ? undefined : Date.now() + retryInMs });
    });
    client.on("connected", (welcome) => {
      this.bodyMaxBytes = welcome.limits.bodyBytes;
      this.#caughtUpSeq = welcome.pending > 0 ? null : -1;
      this.#batch = client.newId();
      this.#waited = { messages: 0, people: new Set() };
    });
    client.on("caughtUp", ({ seq }) => {
      this.#caughtUpSeq ??= seq;
      if (this.#waited.messages > 0) this.#tellWaited();
    });
    client.on("presence", () => this.tell.people());
    client.on("ephemeral", ({ from, body }) => this.#hearTyping(from, body));
    client.on("gap", () => this.tell.note("You were away for so long that the router had to remove messages for this browser."));
    client.on("refused", ({ reason }) => this.tell.note(`The router refused something: ${reason}`));
    client.on("putOff", ({ id, to, code }) => void this.#putOff(to, id, code));
    client.on("settled", (settled) => void this.#settle(settled));
    client.on("closed", ({ reason, code, message }) => {
      if (client === this.client && reason !== "done") this.#become({ state: "closed", reason, code, message });
    });
    return client;
  }

  /** Begins to connect; what an earlier page left undone is taken up. */
  async start() {
    await this.client.start();
    const names = [...this.people.keys()];
    if (names.length > 0) void this.#watch(names);
    if (this.status.text !== "") void this.client.setStatus(this.status.state, this.status.text);
    await this.#takeUp();
  }

  /** Another go, after the client came to its end or while it waits. */
  async restart() {
    if (this.#isRestarting) return;
    this.#isRestarting = true;
    const old = this.client;
    this.client = this.#makeClient();
    this.#become({ state: "connecting" });
    // The old one lets go of the device before the new one looks for one.
    await old.close().catch(() => {});
    await this.start();
    this.#isRestarting = false;
  }

  async close() {
    this.tabs.close();
    await this.client.close().catch(() => {});
    this.archive.close();
  }

  /** @param {Connection} connection */
  #become(connection) {
    this.connection = connection;
    this.tell.connection(connection);
  }

  // What comes

  /** Resolves when it is kept: only then it is acknowledged. @param {import("/client/handlers.js").Message} message */
  async #take({ seq, id, from, body, tsMs }) {
    const seen = Array.isArray(body?.seen) ? body.seen.filter((/** @type {unknown} */ item) => typeof item === "string") : null;
    if (seen !== null) {
      for (const entry of await this.archive.markReadByPeer(from, seen)) this.#moved(entry);
      return;
    }
    const hasWaited = this.#caughtUpSeq === null || seq <= this.#caughtUpSeq;
    if (!this.people.has(from)) await this.archive.addContact(from);
    const { entry, isNew } = await this.archive.add({
      peer: from,
      way: "in",
      id,
      place: this.#place(),
      atMs: tsMs,
      body,
      unread: 1,
      ...(hasWaited ? { waited: this.#batch } : {}),
    });
    const person = this.#person(from);
    // Another tab may have kept it, and shown it too.
    person.unread = isNew ? person.unread + 1 : await this.archive.unread(from);
    person.typingUntilMs = 0;
    if (isNew && hasWaited) this.#countWaited(from);
    this.#show(entry, true);
  }

  /** @param {string} from */
  #countWaited(from) {
    this.#waited.messages += 1;
    this.#waited.people.add(from);
    // What waited may still be on its way through the client when the router says that that was all.
    if (this.#caughtUpSeq !== null) this.#tellWaited();
  }

  #tellWaited() {
    this.tell.caughtUp({ messages: this.#waited.messages, people: this.#waited.people.size });
  }

  /** Increases strictly, also where two messages come in one millisecond. */
  #place() {
    this.#lastPlace = Math.max(Date.now(), this.#lastPlace + 0.001);
    return this.#lastPlace;
  }

  /** @param {string} from @param {any} body */
  #hearTyping(from, body) {
    const person = this.people.get(from);
    if (person === undefined || typeof body?.typing !== "boolean") return;
    person.typingUntilMs = body.typing ? Date.now() + TYPING_MS : 0;
    this.tell.people();
    if (body.typing) setTimeout(() => this.tell.people(), TYPING_MS + 50);
  }

  // What goes

  /**
   * @param {string} to
   * @param {string} text
   */
  async send(to, text) {
    const id = this.client.newId();
    const atMs = Date.now();
    const { entry } = await this.archive.add({
      peer: to,
      way: "out",
      id,
      place: this.#place(),
      atMs,
      body: { text, wants: WANTS },
      state: "sending",
      pending: 1,
      device: this.client.device,
    });
    this.#show(entry, true);
    this.#typedAtMs = 0;
    this.#post(entry, false);
  }

  /** Sends a failed one again. @param {Entry} entry */
  async again({ peer, id }) {
    const entry = await this.archive.advance(peer, id, { state: "sending", device: this.client.device }, true);
    if (entry === null) return;
    this.#moved(entry);
    this.#post(entry, true);
  }

  /** @param {Entry} entry @param {boolean} retry an earlier attempt may have been taken */
  #post({ peer, id, body }, retry) {
    // What comes of it is told by `settled`, after a reload as well.
    this.client.send(peer, body, { id, retry }).catch(() => {});
  }

  /** @param {{ id: string, to: string, stored?: boolean, error?: { code: string, maybeTaken: boolean } }} settled */
  async #settle({ id, to, stored, error }) {
    /** @type {{ state: import("./archive.js").SendState, code?: string }} */
    const change = error
      ? { state: error.maybeTaken ? "unsure" : "failed", code: error.code }
      : { state: stored ? "stored" : "handed" };
    // A client that ended keeps what it has, and the next one sends it.
    if (error?.code === "closed") return;
    const entry = await this.archive.advance(to, id, change);
    if (entry !== null) this.#moved(entry);
  }

  /**
   * The router does not take it now; the client tries again.
   *
   * @param {string} to
   * @param {string} id
   * @param {string} code
   */
  async #putOff(to, id, code) {
    const entry = await this.archive.sent(to, id);
    if (entry?.state === "sending") this.tell.entry({ ...entry, code }, false, true);
  }

  /** @param {string} to @param {boolean} isTyping */
  typing(to, isTyping) {
    if (this.connection.state !== "online") return;
    const now = Date.now();
    if (isTyping && now - this.#typedAtMs < TYPING_AGAIN_MS) return;
    if (!isTyping && this.#typedAtMs === 0) return;
    this.#typedAtMs = isTyping ? now : 0;
    this.client.ephemeral(to, { typing: isTyping }).catch(() => {});
  }

  /** All of a conversation is on the screen. @param {string} peer */
  async read(peer) {
    const person = this.people.get(peer);
    if (person === undefined || person.unread === 0) return;
    person.unread = 0;
    const ids = await this.archive.markReadByMe(peer, ({ body }) => body?.wants === WANTS);
    this.tabs.postMessage({ kind: "read", peer });
    this.tell.people();
    this.#tellSeen(peer, ids);
  }

  /** @param {string} peer @param {string[]} ids */
  #tellSeen(peer, ids) {
    for (let at = 0; at < ids.length; at += SEEN_MAX) {
      const some = ids.slice(at, at + SEEN_MAX);
      this.client.send(peer, { seen: some }).then(
        () => this.archive.clearOwed(peer, some),
        () => {},
      );
    }
  }

  /** What an earlier page wrote down and did not get to hand over. */
  async #takeUp() {
    const outbox = this.client.outbox();
    const posted = new Set(outbox.map(({ id }) => id));
    for (const entry of await this.archive.pending()) {
      const isOurs = entry.device === undefined || entry.device === this.client.device;
      if (posted.has(entry.id) || (!isOurs && Date.now() - entry.atMs < 60_000)) continue;
      if (isOurs && Date.now() - entry.atMs < REPEAT_MS) this.#post(entry, true);
      else await this.#settle({ id: entry.id, to: entry.peer, error: { code: "timeout", maybeTaken: true } });
    }
    const told = new Set(outbox.flatMap(({ body }) => body?.seen ?? []));
    /** @type {Map<string, string[]>} */
    const owed = new Map();
    for (const { peer, id } of await this.archive.owed()) {
      if (!told.has(id)) owed.set(peer, [...(owed.get(peer) ?? []), id]);
    }
    for (const [peer, ids] of owed) this.#tellSeen(peer, ids);
  }

  // People and status

  /** @param {string} name @returns {Presence | undefined} */
  presence(name) {
    return this.client.presence(name);
  }

  /** @param {string} name */
  async addPerson(name) {
    if (this.people.has(name)) return;
    await this.archive.addContact(name);
    this.#person(name);
    this.tabs.postMessage({ kind: "people" });
    this.tell.people();
  }

  /** @param {string} name */
  async removePerson(name) {
    await this.archive.forget(name);
    this.people.delete(name);
    await this.client.unwatch([name]).catch(() => {});
    this.tabs.postMessage({ kind: "people" });
    this.tell.people();
  }

  /** @param {string} name */
  #person(name) {
    let person = this.people.get(name);
    if (person === undefined) {
      person = { name, addedMs: Date.now(), last: null, unread: 0, typingUntilMs: 0 };
      this.people.set(name, person);
      void this.#watch([name]);
    }
    return person;
  }

  /** @param {string[]} names */
  async #watch(names) {
    // A client that has ended watches nobody; the next one is told all names when it starts.
    await this.client.watch(names).catch(() => {});
  }

  /** @param {Status} state @param {string} text */
  async setStatus(state, text) {
    this.status = { state, text };
    await this.client.setStatus(state, text === "" ? undefined : text);
  }

  // What several tabs of one person share

  /** Shows here and in other tabs. @param {Entry} entry */
  #moved(entry) {
    this.#show(entry, false);
    this.tabs.postMessage({ kind: "entry", entry, isNew: false });
  }

  /** @param {Entry} entry @param {boolean} isNew */
  #show(entry, isNew) {
    const person = this.#person(entry.peer);
    if (person.last === null || entry.place >= person.last.place || entry.id === person.last.id) person.last = entry;
    if (isNew && entry.way === "out") this.tabs.postMessage({ kind: "entry", entry, isNew });
    this.tell.entry(entry, isNew, true);
    this.tell.people();
  }

  /** @param {any} told */
  async #hearTab({ kind, entry, isNew, peer }) {
    if (kind === "entry") {
      const person = this.#person(entry.peer);
      if (person.last === null || entry.place >= person.last.place || entry.id === person.last.id) person.last = entry;
      this.tell.entry(entry, isNew, false);
    } else if (kind === "read") {
      this.#person(peer).unread = await this.archive.unread(peer);
    } else {
      await this.#reloadPeople();
    }
    this.tell.people();
  }

  async #reloadPeople() {
    const known = await this.archive.people();
    const names = new Set(known.map(({ name }) => name));
    for (const name of this.people.keys()) if (!names.has(name)) this.people.delete(name);
    for (const { name, last, unread } of known) Object.assign(this.#person(name), { last, unread });
  }
}
