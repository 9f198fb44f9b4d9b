// What a router takes from this client on this connection.
//
// A frame that would end the session, or that counts towards its end, must never pass: the client would come to its
// end, and with it everything that waits, for one mistake of the application.

import { nestsDeeperThan, utf8Length } from "./text.js";

/** Levels of a body; the frame around it is one more. */
const BODY_DEPTH_MAX = 126;
/** Users in one `watch` or `unwatch`. */
const WATCH_USERS_MAX = 256;
/** `{"type":"unwatch","users":[]}`. */
const WATCH_FRAME_BYTES = 29;

/** @typedef {{ code: "too_large" | "bad_request", reason: string }} Unfit why something stays here */

/** @typedef {import("./frames.js").Limits} Limits */

/**
 * @typedef {object} Outgoing
 * @property {string} [id]
 * @property {string} to
 * @property {string} body one JSON value, as text
 * @property {number} [ttlMs]
 * @property {boolean} [retry]
 * @property {boolean} [ephemeral]
 */

/**
 * @param {unknown} body
 * @returns {string}
 */
export function bodyText(body) {
  const text = JSON.stringify(body);
  if (text === undefined) throw new TypeError("a body must be a JSON value");
  return text;
}

/**
 * The text of a `send`. The body goes in as it is, so that every repeat is the same to the byte.
 *
 * @param {Outgoing} message
 * @param {Limits} limits
 * @returns {{ text: string, unfit?: undefined } | { text?: undefined, unfit: Unfit }}
 */
export function sendText({ id, to, body, ttlMs, retry, ephemeral }, limits) {
  const head = JSON.stringify({ type: "send", id, to, ttl_ms: ttlMs, retry: retry || undefined, ephemeral });
  const text = `${head.slice(0, -1)},"body":${body}}`;
  const bodyBytes = utf8Length(body);
  if (bodyBytes > limits.bodyBytes) return unfit("too_large", "larger than a body may be for this router");
  if (bodyBytes + utf8Length(head) + 8 > limits.frameBytes) {
    return unfit("too_large", "larger than a frame of this router may be");
  }
  if (nestsDeeperThan(body, BODY_DEPTH_MAX)) return unfit("bad_request", "the body nests too deeply");
  return { text };
}

/**
 * @param {Unfit["code"]} code
 * @param {string} reason
 */
function unfit(code, reason) {
  return { unfit: { code, reason } };
}

/**
 * `users` in as few parts as `watch` or `unwatch` frames of this router need.
 *
 * @param {Iterable<string>} users
 * @param {number} frameBytes
 */
export function portions(users, frameBytes) {
  /** @type {string[][]} */
  const portions = [];
  let left = 0;
  for (const user of users) {
    const bytes = utf8Length(JSON.stringify(user)) + 1;
    const last = portions.at(-1);
    if (last !== undefined && bytes <= left && last.length < WATCH_USERS_MAX) {
      last.push(user);
      left -= bytes;
    } else {
      portions.push([user]);
      left = frameBytes - WATCH_FRAME_BYTES - bytes;
    }
  }
  return portions;
}
