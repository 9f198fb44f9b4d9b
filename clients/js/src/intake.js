// What came in: each message once to the application, and acks for what it is done with.
//
// It must never ack a message that the application may still be working on or whose mark is not stored yet, nor one
// that this connection did not bring (the router refuses such acks).

import { Timer } from "./clock.js";
import { messageName } from "./ids.js";

/** Most messages that one ack waits for. */
const ACK_BATCH_MAX = 32;
/** Longest time that an ack waits for company, while the application works on what came behind it. */
const ACK_DELAY_MS = 10;
/**
 * The same when the application is done with all that came: only what is on its way could be company, and whoever
 * awaits each send waits for this ack.
 */
const IDLE_ACK_DELAY_MS = 1;

/**
 * @typedef {object} Item a message that the application is not done with, or whose mark is not stored
 * @property {number} seq
 * @property {string} from
 * @property {string} id
 * @property {boolean} settled done, and stored
 *
 * @typedef {"fresh" | "known" | "beyond_window"} Admission
 */

/** What needs no handling and may be acked in its turn. */
const SETTLED = { settled: true };

export class Intake {
  #marks;
  #clock;
  #sendAck;
  #timer;
  /** By name. @type {Map<string, Item>} */
  #open = new Map();
  /**
   * What this connection brought and was not acked on it, in order.
   *
   * @type {Array<{ seq: number, item: { settled: boolean } }>}
   */
  #unacked = [];
  #window = 0;
  /** When the last ack went on this connection. */
  #ackedAt = -Infinity;

  /**
   * @param {object} setting
   * @param {import("./marks.js").Marks} setting.marks
   * @param {import("./clock.js").Clock} setting.clock
   * @param {(seq: number) => void} setting.sendAck
   */
  constructor({ marks, clock, sendAck }) {
    this.#marks = marks;
    this.#clock = clock;
    this.#sendAck = sendAck;
    this.#timer = new Timer(clock, () => this.ackNow());
  }

  /**
   * A new connection: everything unacked will come again, up to `window` at a time.
   *
   * @param {number} window
   */
  connected(window) {
    this.disconnected();
    this.#window = window;
    this.#ackedAt = -Infinity;
  }

  disconnected() {
    this.#timer.clear();
    this.#unacked = [];
    this.#window = 0;
  }

  /**
   * Takes note of a message and says whether the application shall have it, as the item returned.
   *
   * @param {import("./marks.js").Delivery} delivery
   * @param {boolean} redelivered
   * @returns {{ admission: Admission, item?: Item }}
   */
  admit(delivery, redelivered) {
    if (this.#unacked.length >= this.#window) return { admission: "beyond_window" };
    const name = messageName(delivery.from, delivery.id);
    const open = this.#open.get(name);
    if (open !== undefined && (redelivered || open.seq === delivery.seq)) {
      this.#expectAck(delivery.seq, open);
      return { admission: "known" };
    }
    if (this.#marks.has(delivery, redelivered)) {
      this.#expectAck(delivery.seq, SETTLED);
      this.#schedule();
      return { admission: "known" };
    }
    const { seq, from, id } = delivery;
    const item = { seq, from, id, settled: false };
    this.#open.set(name, item);
    this.#expectAck(seq, item);
    return { admission: "fresh", item };
  }

  /**
   * The application is done with these, and that is stored.
   *
   * @param {Item[]} items
   */
  settled(items) {
    for (const item of items) {
      item.settled = true;
      const name = messageName(item.from, item.id);
      if (this.#open.get(name) === item) this.#open.delete(name);
    }
    this.#schedule();
  }

  /** The ack for everything settled, due or not. */
  ackNow() {
    this.#timer.clear();
    const last = this.#unacked.splice(0, this.#ackable()).at(-1);
    if (last === undefined) return;
    this.#ackedAt = this.#clock.now();
    this.#sendAck(last.seq);
  }

  /**
   * @param {number} seq
   * @param {{ settled: boolean }} item
   */
  #expectAck(seq, item) {
    const last = this.#unacked.at(-1);
    if (last === undefined || last.seq < seq) this.#unacked.push({ seq, item });
  }

  #schedule() {
    const count = this.#ackable();
    if (count === 0) return;
    // A batch above the window would never fill; half of it keeps the router pushing.
    const batch = Math.max(1, Math.min(ACK_BATCH_MAX, Math.floor(this.#window / 2)));
    const dueAt = this.#ackedAt + (count === this.#unacked.length ? IDLE_ACK_DELAY_MS : ACK_DELAY_MS);
    if (count >= batch || dueAt <= this.#clock.now()) this.ackNow();
    else if (!this.#timer.isSet || this.#timer.dueAt !== dueAt) this.#timer.setAt(dueAt);
  }

  /** How many of the unacked, from the front, may be acked: acks are cumulative. */
  #ackable() {
    const first = this.#unacked.findIndex(({ item }) => !item.settled);
    return first < 0 ? this.#unacked.length : first;
  }
}
