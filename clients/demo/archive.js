// What was said, kept in IndexedDB. A message is here before the client acknowledges it to the router, so that whatever
// the router was told to be done can be shown again after a reload. All tabs of this browser share it.

/** @typedef {"sending" | "stored" | "handed" | "read" | "failed" | "unsure"} SendState */
/**
 * @typedef {object} Entry A message, as it is kept.
 * @property {string} me
 * @property {string} peer the other one
 * @property {"in" | "out"} way
 * @property {string} id
 * @property {number} place orders a conversation: when this browser got it or sent it
 * @property {number} atMs
 * @property {any} body
 * @property {string} [waited] names the connection at whose start it had been waiting
 * @property {1} [unread]
 * @property {1} [owed] its sender has not been told yet that it was read
 * @property {SendState} [state] of one's own
 * @property {1} [pending] while `state` is `sending`
 * @property {string} [device] whose outbox it is in
 * @property {string} [code] why it failed, or is put off
 */
/** @typedef {{ me: string, name: string, addedMs: number }} Contact */

const NAME = "doorstep-chat";
const VERSION = 1;

/** A message only ever moves on: an answer that comes late does not take back that it was read. */
const RANK = /** @type {Record<SendState, number>} */ ({ sending: 0, unsure: 1, failed: 1, stored: 2, handed: 3, read: 4 });

/**
 * @template Result
 * @param {IDBRequest<Result>} request
 * @returns {Promise<Result>}
 */
function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * Whether something was added; it is not when there is one of the same key.
 *
 * @param {IDBRequest} request
 * @returns {Promise<boolean>}
 */
function isAdded(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(true);
    request.onerror = (event) => {
      if (request.error?.name !== "ConstraintError") return reject(request.error);
      // Else the whole transaction would be given up.
      event.preventDefault();
      event.stopPropagation();
      resolve(false);
    };
  });
}

export class Archive {
  /**
   * @param {IDBDatabase} database
   * @param {string} me
   */
  constructor(database, me) {
    this.database = database;
    this.me = me;
  }

  /** @param {string} me */
  static async open(me) {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      const entries = request.result.createObjectStore("entries", { keyPath: ["me", "peer", "way", "id"] });
      entries.createIndex("place", ["me", "peer", "place"]);
      entries.createIndex("unread", ["me", "unread", "peer"]);
      entries.createIndex("owed", ["me", "owed", "peer"]);
      entries.createIndex("pending", ["me", "pending"]);
      request.result.createObjectStore("contacts", { keyPath: ["me", "name"] });
    };
    return new Archive(await answer(request), me);
  }

  /**
   * Runs `work` in one transaction and resolves when that is committed.
   *
   * @template Result
   * @param {IDBTransactionMode} mode
   * @param {(entries: IDBObjectStore, contacts: IDBObjectStore) => Promise<Result>} work
   * @returns {Promise<Result>}
   */
  async #transact(mode, work) {
    const transaction = this.database.transaction(["entries", "contacts"], mode);
    const committed = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? new Error("the browser gave up the transaction"));
    });
    const [result] = await Promise.all([work(transaction.objectStore("entries"), transaction.objectStore("contacts")), committed]);
    return result;
  }

  /** @param {string} peer */
  #ofPeer(peer) {
    return IDBKeyRange.bound([this.me, peer, -Infinity], [this.me, peer, Infinity]);
  }

  /**
   * Keeps a message, unless it is kept already. As little as that needs, because the next message waits for it.
   *
   * @param {Omit<Entry, "me">} entry
   * @returns {Promise<{ entry: Entry, isNew: boolean }>}
   */
  add(entry) {
    const kept = { ...entry, me: this.me };
    return this.#transact("readwrite", async (entries) => {
      if (await isAdded(entries.add(kept))) return { entry: kept, isNew: true };
      return { entry: await answer(entries.get([this.me, entry.peer, entry.way, entry.id])), isNew: false };
    });
  }

  /**
   * Moves one's own message on. Nothing comes back where it is not kept, or was further already.
   *
   * @param {string} peer
   * @param {string} id
   * @param {{ state: SendState, device?: string, code?: string }} change
   * @param {boolean} [again] a failed one is being sent again
   * @returns {Promise<Entry | null>}
   */
  advance(peer, id, change, again = false) {
    return this.#transact("readwrite", (entries) => this.#advance(entries, peer, id, change, again));
  }

  /**
   * @param {IDBObjectStore} entries
   * @param {string} peer
   * @param {string} id
   * @param {{ state: SendState, device?: string, code?: string }} change
   * @param {boolean} again
   * @returns {Promise<Entry | null>}
   */
  async #advance(entries, peer, id, change, again) {
    /** @type {Entry | undefined} */
    const kept = await answer(entries.get([this.me, peer, "out", id]));
    if (kept === undefined) return null;
    const isForward = again ? RANK[kept.state ?? "sending"] === 1 : RANK[change.state] > RANK[kept.state ?? "sending"];
    if (!isForward) return null;
    const { pending, code, ...rest } = kept;
    /** @type {Entry} */
    const moved = { ...rest, ...change };
    if (change.state === "sending") moved.pending = 1;
    entries.put(moved);
    return moved;
  }

  /**
   * The other one has read these.
   *
   * @param {string} peer
   * @param {string[]} ids
   * @returns {Promise<Entry[]>} those that are news
   */
  markReadByPeer(peer, ids) {
    return this.#transact("readwrite", async (entries) => {
      const moved = [];
      for (const id of ids) moved.push(await this.#advance(entries, peer, id, { state: "read" }, false));
      return moved.filter((entry) => entry !== null);
    });
  }

  /**
   * All of this conversation has been seen. In one transaction, so that of several tabs one alone tells the sender.
   *
   * @param {string} peer
   * @param {(entry: Entry) => boolean} wantsToKnow whether the sender of this one is to be told
   * @returns {Promise<string[]>} the ids that the sender is owed
   */
  markReadByMe(peer, wantsToKnow) {
    return this.#transact("readwrite", async (entries) => {
      /** @type {Entry[]} */
      const unread = await answer(entries.index("unread").getAll([this.me, 1, peer]));
      const owed = unread.filter(wantsToKnow);
      for (const entry of unread) {
        const { unread: _, ...read } = entry;
        entries.put(owed.includes(entry) ? { ...read, owed: 1 } : read);
      }
      return owed.map(({ id }) => id);
    });
  }

  /**
   * @param {string} peer
   * @param {string[]} ids
   */
  clearOwed(peer, ids) {
    return this.#transact("readwrite", async (entries) => {
      for (const id of ids) {
        const kept = await answer(entries.get([this.me, peer, "in", id]));
        if (kept === undefined) continue;
        const { owed, ...entry } = kept;
        entries.put(entry);
      }
    });
  }

  /**
   * @param {string} peer
   * @param {string} id of one's own message
   * @returns {Promise<Entry | undefined>}
   */
  sent(peer, id) {
    return this.#transact("readonly", (entries) => answer(entries.get([this.me, peer, "out", id])));
  }

  /** @returns {Promise<Entry[]>} */
  owed() {
    return this.#transact("readonly", (entries) => answer(entries.index("owed").getAll(IDBKeyRange.bound([this.me, 1], [this.me, 1, []]))));
  }

  /** @returns {Promise<Entry[]>} */
  pending() {
    return this.#transact("readonly", (entries) => answer(entries.index("pending").getAll([this.me, 1])));
  }

  /** @param {string} peer */
  unread(peer) {
    return this.#transact("readonly", (entries) => answer(entries.index("unread").count([this.me, 1, peer])));
  }

  /**
   * The last messages before a place, the oldest first.
   *
   * @param {string} peer
   * @param {number} most
   * @param {number} [before]
   * @returns {Promise<Entry[]>}
   */
  page(peer, most, before = Infinity) {
    return this.#transact("readonly", async (entries) => {
      const range = IDBKeyRange.bound([this.me, peer, -Infinity], [this.me, peer, before], false, true);
      /** @type {Entry[]} */
      const found = [];
      const request = entries.index("place").openCursor(range, "prev");
      for (let cursor = await answer(request); cursor !== null && found.length < most; ) {
        found.push(cursor.value);
        if (found.length === most) break;
        cursor.continue();
        cursor = await answer(request);
      }
      return found.reverse();
    });
  }

  /**
   * Everybody one has talked to or has added.
   *
   * @returns {Promise<{ name: string, addedMs: number, last: Entry | null, unread: number }[]>}
   */
  people() {
    return this.#transact("readonly", async (entries, contacts) => {
      /** @type {Contact[]} */
      const all = await answer(contacts.getAll(IDBKeyRange.bound([this.me], [this.me, []])));
      const people = [];
      for (const { name, addedMs } of all) {
        const cursor = await answer(entries.index("place").openCursor(this.#ofPeer(name), "prev"));
        const unread = await answer(entries.index("unread").count([this.me, 1, name]));
        people.push({ name, addedMs, last: cursor?.value ?? null, unread });
      }
      return people;
    });
  }

  /** @param {string} name */
  addContact(name) {
    return this.#transact("readwrite", (_, contacts) => answer(contacts.put({ me: this.me, name, addedMs: Date.now() })));
  }

  /** Forgets a conversation. @param {string} peer */
  forget(peer) {
    return this.#transact("readwrite", async (entries, contacts) => {
      await answer(entries.delete(IDBKeyRange.bound([this.me, peer], [this.me, peer, []])));
      await answer(contacts.delete([this.me, peer]));
    });
  }

  close() {
    this.database.close();
  }
}
