// What goes into the storage, in order, as few writes as can be: whatever comes up while one write is under way goes
// into the next, as one transaction.

import { Backoff } from "./backoff.js";
import { Timer } from "./clock.js";

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5000;
/** Changes in one transaction, about. */
const BATCH_MAX = 1024;

/** @typedef {[key: string, value: unknown]} Change `undefined` removes */
/** @typedef {import("./storage/storage.js").Storage} Storage */
/** @typedef {import("./clock.js").Clock} Clock */

/**
 * @typedef {object} Job
 * @property {Change[]} changes
 * @property {boolean} must it is tried again until it succeeds
 * @property {() => void} resolve
 * @property {(error: unknown) => void} reject
 */

export class Journal {
  /** @type {Job[]} */
  #jobs = [];
  #running = false;
  #closed = false;
  #storage;
  #prefix;
  #report;
  #backoff;
  #pause;
  /** Ends the pause after a failure. */
  #resume = () => {};

  /**
   * @param {object} setting
   * @param {Storage | null} setting.storage
   * @param {string} setting.prefix before every key
   * @param {Clock} setting.clock
   * @param {() => number} setting.random
   * @param {(error: unknown) => void} setting.report
   */
  constructor({ storage, prefix, clock, random, report }) {
    this.#storage = storage;
    this.#prefix = prefix;
    this.#report = report;
    this.#backoff = new Backoff(RETRY_MIN_MS, RETRY_MAX_MS, random);
    this.#pause = new Timer(clock, () => this.#resume());
  }

  /**
   * Resolves when it is stored; rejects when it was not, and then it is as if it had never been asked for.
   *
   * @param {Change[]} changes
   */
  try(changes) {
    return this.#submit(changes, false);
  }

  /**
   * Resolves when it is stored, after however many attempts.
   *
   * @param {Change[]} changes
   */
  must(changes) {
    return this.#submit(changes, true);
  }

  /** Resolves when everything asked for so far is stored or was given up. */
  async flush() {
    if (this.#jobs.length > 0 || this.#running) await this.#submit([], true);
  }

  /** What is not stored when it is called is tried once more, and no longer. */
  async close() {
    this.#closed = true;
    this.#pause.clear();
    this.#resume();
    await this.flush();
  }

  /** As if the process had ended: nothing more is stored, and nobody is told. */
  abandon() {
    this.#closed = true;
    this.#storage = null;
    this.#jobs = [];
    this.#pause.clear();
  }

  /**
   * @param {Change[]} changes
   * @param {boolean} must
   * @returns {Promise<void>}
   */
  #submit(changes, must) {
    if (this.#storage === null) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#jobs.push({ changes, must, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  async #run() {
    this.#running = true;
    // Calls of one turn of the event loop go together.
    await Promise.resolve();
    while (this.#jobs.length > 0) {
      const jobs = this.#batch();
      try {
        await this.#write(jobs);
        this.#backoff.reset();
        for (const job of jobs) job.resolve();
      } catch (error) {
        this.#report(error);
        await this.#failed(jobs, error);
      }
    }
    this.#running = false;
  }

  #batch() {
    let [count, changes] = [0, 0];
    for (const job of this.#jobs) {
      if (count > 0 && changes + job.changes.length > BATCH_MAX) break;
      count += 1;
      changes += job.changes.length;
    }
    return this.#jobs.splice(0, count);
  }

  /** @param {Job[]} jobs */
  async #write(jobs) {
    /** @type {Map<string, unknown>} */
    const changes = new Map();
    for (const job of jobs) for (const [key, value] of job.changes) changes.set(this.#prefix + key, value);
    if (changes.size > 0) await this.#storage?.write([...changes]);
  }

  /**
   * @param {Job[]} jobs
   * @param {unknown} error
   */
  async #failed(jobs, error) {
    const again = jobs.filter((job) => job.must);
    const lost = jobs.filter((job) => !job.must);
    for (const job of lost) job.reject(error);
    if (this.#closed) {
      for (const job of again) job.reject(error);
      return;
    }
    // A write that failed may have been done all the same, as when the disk broke after it; what is said not to be
    // stored must not turn up in the next process.
    const keys = lost.flatMap((job) => job.changes.map(([key]) => key));
    if (keys.length > 0) {
      const changes = keys.map((key) => /** @type {Change} */ ([key, undefined]));
      again.unshift({ changes, must: true, resolve: () => {}, reject: () => {} });
    }
    this.#jobs.unshift(...again);
    if (again.length > 0) await this.#rest();
  }

  #rest() {
    return new Promise((resolve) => {
      this.#resume = () => resolve(undefined);
      if (this.#closed) return this.#resume();
      this.#pause.set(this.#backoff.next());
    });
  }
}
