// Durable messages: from the frame to the handler, from there into the storage, and the ack back.

import { isCount } from "./frames.js";
import { HandlerQueue } from "./handlers.js";
import { Intake } from "./intake.js";
import { Marks } from "./marks.js";

/** @typedef {import("./intake.js").Item} Item */
/** @typedef {import("./handlers.js").PoisonedMessage} PoisonedMessage */

export class Receiver {
  #marks = new Marks();
  #intake;
  #handlers;
  /** @type {import("./journal.js").Journal | undefined} */
  #journal = undefined;

  /**
   * @param {object} setting
   * @param {import("./clock.js").Clock} setting.clock
   * @param {((message: import("./handlers.js").Message) => unknown) | undefined} setting.onMessage
   * @param {((message: PoisonedMessage, error: unknown) => unknown) | undefined} setting.onPoison
   * @param {number} setting.handlerAttempts
   * @param {(error: unknown) => void} setting.report
   * @param {(seq: number) => void} setting.sendAck
   */
  constructor({ clock, onMessage, onPoison, handlerAttempts, report, sendAck }) {
    this.#intake = new Intake({ marks: this.#marks, clock, sendAck });
    /** @type {HandlerQueue<Item>} */
    this.#handlers = new HandlerQueue({
      handle: onMessage,
      poison: onPoison,
      attempts: handlerAttempts,
      clock,
      report,
      done: (item) => this.#done(item),
    });
  }

  /** @param {import("./state.js").State} stored what an earlier process was done with, and where to keep more */
  open({ journal, records }) {
    this.#journal = journal;
    this.#marks.load(records);
  }

  /** @param {number} window */
  connected(window) {
    this.#intake.connected(window);
  }

  disconnected() {
    this.#intake.disconnected();
    this.#handlers.forgetMilestone();
  }

  /**
   * Takes a durable message in. Returns what is wrong with it when the connection cannot go on.
   *
   * @param {Record<string, any>} frame
   * @returns {string | undefined}
   */
  message(frame) {
    const { seq, id, from, body, ts_ms, redelivered, bodyText, bodyError } = frame;
    if (!isCount(seq) || typeof id !== "string" || typeof from !== "string") return "a message without seq, id or from";
    const { admission, item } = this.#intake.admit({ seq, from, id }, redelivered === true);
    if (admission === "beyond_window") return "more messages than the window allows";
    if (item === undefined) return undefined;
    /** @type {PoisonedMessage} */
    const message = { seq, id, from, body, tsMs: ts_ms, redelivered: redelivered === true };
    if (bodyText !== undefined) message.bodyText = bodyText;
    this.#handlers.push({ item, message, unreadable: bodyError });
    return undefined;
  }

  /**
   * Calls `run` when everything that came so far is done.
   *
   * @param {() => void} run
   */
  afterAll(run) {
    this.#handlers.afterAll(run);
  }

  /** The ack for everything that is done and stored. */
  ackNow() {
    this.#intake.ackNow();
  }

  /** No handler is called any more. Resolves when the one that runs has come to its end. */
  async stop() {
    await this.#handlers.stop();
  }

  /** What is done from now on is not noted: the device may be somebody else's. */
  close() {
    this.#journal = undefined;
    this.#intake.disconnected();
    void this.#handlers.stop();
  }

  /** @param {Item} item */
  #done(item) {
    const journal = this.#journal;
    if (journal === undefined) return;
    journal.must(this.#marks.add([item])).then(
      () => this.#intake.settled([item]),
      // The client ended; the message comes again.
      () => {},
    );
  }
}
