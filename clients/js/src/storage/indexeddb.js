// The storage of browsers: one object store of records.

const STORE = "records";

/** @implements {Required<import("./storage.js").Storage>} */
export class IndexedDbStorage {
  #name;
  #factory;
  /** @type {Promise<IDBDatabase> | undefined} */
  #database = undefined;

  /**
   * @param {string} [name] of the database
   * @param {IDBFactory} [factory]
   */
  constructor(name = "doorstep", factory = globalThis.indexedDB) {
    if (factory === undefined) throw new TypeError("there is no IndexedDB here");
    this.#name = name;
    this.#factory = factory;
  }

  /**
   * @param {string} prefix
   * @returns {Promise<Array<[string, any]>>}
   */
  async load(prefix) {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    return this.#transact("readonly", (store) => {
      const keys = store.getAllKeys(range);
      const values = store.getAll(range);
      return () => keys.result.map((key, place) => /** @type {[string, any]} */ ([String(key), values.result[place]]));
    });
  }

  /** @param {Array<[string, any]>} changes */
  async write(changes) {
    await this.#transact("readwrite", (store) => {
      for (const [key, value] of changes) {
        if (value === undefined) store.delete(key);
        else store.put(value, key);
      }
      return () => undefined;
    });
  }

  async close() {
    const database = this.#database;
    this.#database = undefined;
    await database?.then((open) => open.close(), () => {});
  }

  /**
   * @template T
   * @param {IDBTransactionMode} mode
   * @param {(store: IDBObjectStore) => () => T} work returns what reads the results once they are there
   * @returns {Promise<T>}
   */
  async #transact(mode, work) {
    const database = await this.#open();
    return new Promise((resolve, reject) => {
      // An ack or a frame follows: it may not be gone after a crash of the machine, as it may by default.
      const transaction = database.transaction(STORE, mode, { durability: "strict" });
      transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was aborted"));
      try {
        const result = work(transaction.objectStore(STORE));
        transaction.oncomplete = () => resolve(result());
      } catch (error) {
        // A value that cannot be stored; what was asked for before it would be committed.
        reject(error);
        transaction.abort();
      }
    });
  }

  #open() {
    this.#database ??= this.#connect().catch((error) => {
      this.#database = undefined;
      throw error;
    });
    return this.#database;
  }

  /** @returns {Promise<IDBDatabase>} */
  #connect() {
    return new Promise((resolve, reject) => {
      const request = this.#factory.open(this.#name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE);
      request.onerror = () => reject(request.error);
      request.onblocked = () => reject(new Error("an older version of the database is open in another tab"));
      request.onsuccess = () => {
        const database = request.result;
        // Whoever deletes the database or clears the site's data must not have to wait; the next use opens it again.
        database.onversionchange = () => this.close();
        database.onclose = () => {
          this.#database = undefined;
        };
        resolve(database);
      };
    });
  }
}
