// A storage that outlives a client, and not the process.

/** @implements {Required<import("./storage.js").Storage>} */
export class MemoryStorage {
  /** As text, so that nobody shares an object with what is stored. @type {Map<string, string>} */
  #records = new Map();

  /**
   * @param {string} prefix
   * @returns {Promise<Array<[string, any]>>}
   */
  async load(prefix) {
    const keys = [...this.#records.keys()].filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => [key, JSON.parse(/** @type {string} */ (this.#records.get(key)))]);
  }

  /** @param {Array<[string, any]>} changes */
  async write(changes) {
    for (const [key, value] of changes) {
      if (value === undefined) this.#records.delete(key);
      else this.#records.set(key, JSON.stringify(value));
    }
  }

  async close() {}
}
