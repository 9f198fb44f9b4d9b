// A storage in one file, for Node. Every write replaces the file as a whole: after a crash there is the old one or the
// new one. One process at a time.

import { mkdir, open, readFile, rename, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";

const FORMAT = "doorstep-client/1";

/** @implements {Required<import("./storage.js").Storage>} */
export class FileStorage {
  #path;
  /** @type {Promise<Map<string, any>> | undefined} */
  #records = undefined;
  /** What the file may be like when nobody else wrote it: after a failure it is the old one or the new one. */
  #versions = [""];
  /** Writes follow one another. @type {Promise<void>} */
  #last = Promise.resolve();

  /** @param {string} path its directory is made when missing */
  constructor(path) {
    this.#path = resolve(path);
  }

  /**
   * @param {string} prefix
   * @returns {Promise<Array<[string, any]>>}
   */
  async load(prefix) {
    const records = await this.#open();
    const keys = [...records.keys()].filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => [key, structuredClone(records.get(key))]);
  }

  /** @param {Array<[string, any]>} changes */
  write(changes) {
    const write = this.#last.then(() => this.#write(changes));
    this.#last = write.catch(() => {});
    return write;
  }

  async close() {
    await this.#last;
  }

  /** @param {Array<[string, any]>} changes */
  async #write(changes) {
    const before = await this.#open();
    const records = new Map(before);
    for (const [key, value] of changes) {
      if (value === undefined) records.delete(key);
      else records.set(key, structuredClone(value));
    }
    const now = await version(this.#path);
    if (!this.#versions.includes(now)) {
      throw new Error(`another process writes ${this.#path}: each needs a file of its own`);
    }
    const next = `${this.#path}.next`;
    await writeSafely(next, JSON.stringify({ format: FORMAT, records: [...records] }));
    this.#versions = [now, await version(next)];
    await rename(next, this.#path);
    await syncDirectory(dirname(this.#path));
    this.#records = Promise.resolve(records);
  }

  #open() {
    this.#records ??= this.#read().catch((error) => {
      this.#records = undefined;
      throw error;
    });
    return this.#records;
  }

  /** @returns {Promise<Map<string, any>>} */
  async #read() {
    await mkdir(dirname(this.#path), { recursive: true });
    const now = await version(this.#path);
    this.#versions = [now];
    if (now === "") return new Map();
    const { format, records } = JSON.parse(await readFile(this.#path, "utf8"));
    if (format !== FORMAT) throw new Error(`${this.#path} is no file of this client`);
    return new Map(records);
  }
}

/**
 * @param {string} path
 * @param {string} text
 */
async function writeSafely(path, text) {
  const file = await open(path, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Without it the new name could be gone after a crash of the machine. Windows does not know of it.
 *
 * @param {string} path
 */
async function syncDirectory(path) {
  if (process.platform === "win32") return;
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Tells one writing of a file from another; empty where there is no file.
 *
 * @param {string} path
 */
async function version(path) {
  try {
    const { ino, mtimeNs, size } = await stat(path, { bigint: true });
    return `${ino} ${mtimeNs} ${size}`;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT") return "";
    throw error;
  }
}
