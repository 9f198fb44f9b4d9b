// The last things that happened, as the stream told them, and the sentences for them.

import { bytes, counted } from "./format.js";

/** @typedef {import("./live.js").LiveEvent} LiveEvent */
/** @typedef {{ number: number, atMs: number, type: string, user: string | null, sentence: string }} Entry */

/** More than anybody reads; a router may have thousands a second to tell. */
export const FEED_MAX = 300;

/** @type {Record<string, string>} */
export const KINDS = {
  session_opened: "Session opened",
  session_closed: "Session closed",
  presence: "Presence",
  spilled: "Put on disk",
  dead_letter: "Dead letter",
  missed: "Missed",
};

/** @type {Record<string, string>} */
export const REASONS = {
  expired: "expired: nobody took it in time",
  purged: "purged by an operator",
  lapsed: "lapsed: the device had fallen too far behind",
  device_forgotten: "its device was forgotten",
  corrupt: "corrupt: it could not be read",
};

export class Feed {
  /** The newest first. @type {Entry[]} */
  entries = [];
  #number = 0;
  #handlers = /** @type {Set<() => void>} */ (new Set());

  /** @param {LiveEvent} event */
  add({ type, data }) {
    if (!(type in KINDS)) return;
    this.#number += 1;
    this.entries.unshift({
      number: this.#number,
      atMs: data.at_ms ?? Date.now(),
      type,
      user: data.user ?? null,
      sentence: said(type, data),
    });
    this.entries.length = Math.min(this.entries.length, FEED_MAX);
    for (const handler of this.#handlers) handler();
  }

  /** @param {() => void} handler @returns {() => void} */
  onChange(handler) {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }
}

/**
 * @param {string} type
 * @param {any} data
 */
function said(type, data) {
  switch (type) {
    case "session_opened":
      return `came with device ${data.device}`;
    case "session_closed":
      return `left with device ${data.device}${data.code === undefined ? "" : ` (closed by the router: ${data.code})`}`;
    case "presence":
      return `is ${data.state}${data.text ? `: ${data.text}` : ""}`;
    case "spilled":
      return `was away or slow: ${counted(data.messages, "message")} put on disk, ${bytes(data.bytes)}`;
    case "dead_letter": {
      const device = data.device === undefined ? "" : ` on device ${data.device}`;
      return `did not get ${counted(data.messages, "message")}${device}: ${REASONS[data.reason] ?? data.reason}`;
    }
    default:
      return `${counted(data.events, "event")} not told: too much happened at once`;
  }
}
