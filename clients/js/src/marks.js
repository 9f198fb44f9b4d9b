// What this device is done with: the highest seq, and the names of the last messages.
//
// The names recognise a repeat that has a new seq. They are kept in a ring of records, so that storing one more
// message is one small write and never a removal.

import { messageName } from "./ids.js";

/** Names remembered. */
export const NAMES_MAX = 4096;

/** @typedef {import("./journal.js").Change} Change */
/** @typedef {{ seq: number, from: string, id: string }} Delivery */

export class Marks {
  /** Highest seq that is done. */
  #seq = 0;
  /** How many were done ever: the place in the ring. */
  #count = 0;
  /** Seq by name, oldest first. @type {Map<string, number>} */
  #names = new Map();

  /**
   * What an earlier process stored.
   *
   * @param {Array<[string, any]>} records by key
   */
  load(records) {
    const stored = new Map(records);
    const cursor = stored.get("cursor");
    this.#seq = cursor?.seq ?? 0;
    this.#count = cursor?.count ?? 0;
    for (let count = Math.max(0, this.#count - NAMES_MAX); count < this.#count; count += 1) {
      const record = stored.get(ringKey(count));
      if (record !== undefined) this.#remember(record.name, record.seq);
    }
  }

  /**
   * Whether a message that comes was done before. Without the mark `redelivered` only the very same delivery counts:
   * which names are used twice is the senders' affair, and a message must not get lost for it.
   *
   * @param {Delivery} delivery
   * @param {boolean} redelivered
   */
  has({ seq, from, id }, redelivered) {
    const seqOfName = this.#names.get(messageName(from, id));
    if (!redelivered) return seqOfName === seq;
    return seq <= this.#seq || seqOfName !== undefined;
  }

  /**
   * Notes deliveries and returns what is to be stored of that.
   *
   * @param {Delivery[]} deliveries
   * @returns {Change[]}
   */
  add(deliveries) {
    /** @type {Change[]} */
    const changes = [];
    for (const { seq, from, id } of deliveries) {
      const name = messageName(from, id);
      changes.push([ringKey(this.#count), { name, seq }]);
      this.#count += 1;
      this.#seq = Math.max(this.#seq, seq);
      this.#remember(name, seq);
    }
    changes.push(["cursor", { seq: this.#seq, count: this.#count }]);
    return changes;
  }

  /**
   * @param {string} name
   * @param {number} seq
   */
  #remember(name, seq) {
    this.#names.delete(name);
    this.#names.set(name, seq);
    if (this.#names.size <= NAMES_MAX) return;
    const [oldest] = this.#names.keys();
    if (oldest !== undefined) this.#names.delete(oldest);
  }
}

/** @param {number} count */
function ringKey(count) {
  return `done/${String(count % NAMES_MAX).padStart(4, "0")}`;
}
