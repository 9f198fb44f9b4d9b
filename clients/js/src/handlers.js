// The application's handler, called for one message after the other.
//
// It must never begin with a message before the one in front is done, and never let one message block the others for
// ever.

import { Timer } from "./clock.js";

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5000;

/**
 * @typedef {object} Message
 * @property {number} seq
 * @property {string} id with `from` the name of the message, for ever
 * @property {string} from
 * @property {any} body
 * @property {number} tsMs when the router took it
 * @property {boolean} redelivered this device may have seen it before, in an earlier process
 *
 * @typedef {Message & { bodyText?: string }} PoisonedMessage `bodyText` where the body is no JSON
 */

/**
 * @template T
 * @typedef {object} Task
 * @property {T} item
 * @property {PoisonedMessage} message
 * @property {unknown} [unreadable] why the handler cannot have it
 */

/** @template T */
export class HandlerQueue {
  /** @type {Array<Task<T>>} */
  #tasks = [];
  /** To be called when as many tasks more are done. @type {{ after: number, run: () => void } | undefined} */
  #milestone = undefined;
  /** Settles when the queue is empty. @type {Promise<void> | undefined} */
  #run = undefined;
  #stopped = false;
  #setting;
  #pause;
  #resume = () => {};

  /**
   * @param {object} setting
   * @param {((message: Message) => unknown) | undefined} setting.handle nothing is handled without one
   * @param {((message: PoisonedMessage, error: unknown) => unknown) | undefined} setting.poison
   * @param {number} setting.attempts
   * @param {import("./clock.js").Clock} setting.clock
   * @param {(error: unknown) => void} setting.report
   * @param {(item: T) => void} setting.done
   */
  constructor(setting) {
    this.#setting = setting;
    this.#pause = new Timer(setting.clock, () => this.#resume());
  }

  /** @param {Task<T>} task */
  push(task) {
    if (this.#stopped) return;
    this.#tasks.push(task);
    if (this.#setting.handle !== undefined) this.#run ??= this.#work();
  }

  /**
   * Calls `run` when everything that is in the queue now is done. A later call replaces an earlier one.
   *
   * @param {() => void} run
   */
  afterAll(run) {
    this.#milestone = { after: this.#tasks.length, run };
    this.#checkMilestone();
  }

  forgetMilestone() {
    this.#milestone = undefined;
  }

  /** No other handler is begun. Resolves when the one that runs has come to its end. */
  stop() {
    this.#stopped = true;
    this.#milestone = undefined;
    this.#pause.clear();
    this.#resume();
    return this.#run;
  }

  async #work() {
    for (let task = this.#tasks[0]; task !== undefined; task = this.#tasks[0]) {
      const done = await this.#handle(task);
      if (done) this.#setting.done(task.item);
      if (this.#stopped) break;
      this.#tasks.shift();
      if (this.#milestone !== undefined) this.#milestone.after -= 1;
      this.#checkMilestone();
    }
    this.#tasks = this.#stopped ? [] : this.#tasks;
    this.#run = undefined;
  }

  #checkMilestone() {
    if (this.#milestone === undefined || this.#milestone.after > 0) return;
    const { run } = this.#milestone;
    this.#milestone = undefined;
    run();
  }

  /**
   * Says whether the message is done.
   *
   * @param {Task<T>} task
   */
  async #handle({ message, unreadable }) {
    const { handle, poison } = this.#setting;
    let error = unreadable;
    if (error === undefined) {
      const outcome = await this.#attempt(async () => handle?.({ ...message }));
      if (outcome.done || this.#stopped) return outcome.done;
      error = outcome.error;
    }
    if (poison === undefined) {
      const name = `${message.id} from ${message.from}`;
      this.#setting.report(new Error(`message ${name} is given up, and there is no onPoison`, { cause: error }));
      return true;
    }
    const outcome = await this.#attempt(async () => poison({ ...message }, error));
    return outcome.done || !this.#stopped;
  }

  /**
   * @param {() => Promise<unknown>} work
   * @returns {Promise<{ done: boolean, error?: unknown }>} why the last attempt failed
   */
  async #attempt(work) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await work();
        return { done: true };
      } catch (error) {
        this.#setting.report(error);
        if (this.#stopped || attempt >= this.#setting.attempts) return { done: false, error };
        await this.#rest(Math.min(RETRY_MIN_MS * 2 ** (attempt - 1), RETRY_MAX_MS));
        if (this.#stopped) return { done: false, error };
      }
    }
  }

  /** @param {number} ms */
  #rest(ms) {
    return new Promise((resolve) => {
      this.#resume = () => resolve(undefined);
      this.#pause.set(ms);
    });
  }
}
