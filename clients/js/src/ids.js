// Names: made, and checked before they reach the router, which would answer a bad one much later.

import { utf8Length } from "./text.js";

const USER_BYTES_MAX = 128;
const DEVICE_BYTES_MAX = 64;
const MESSAGE_ID = /^[A-Za-z0-9._:-]{1,64}$/;
/** Control characters, the slash, and halves of surrogate pairs, which have no UTF-8. */
const NOT_IN_NAMES = /[\p{Cc}\p{Cs}/]/u;

/** Crockford's alphabet, in which text sorts like the numbers. */
const DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TIME_DIGITS = 10;
const RANDOM_DIGITS = 16;

/** Of the last id. */
let lastMs = 0;
let lastRandom = new Uint8Array(RANDOM_DIGITS);

/** A ULID: 48 bits of time, 80 of randomness. One that is made later sorts behind, in the same millisecond too. */
export function newId() {
  const nowMs = Date.now();
  if (nowMs > lastMs || !increment(lastRandom)) {
    lastMs = Math.max(nowMs, lastMs + 1);
    // Not `randomUUID`, which pages without TLS do not have.
    lastRandom = crypto.getRandomValues(new Uint8Array(RANDOM_DIGITS)).map((byte) => byte % 32);
  }
  let time = "";
  let rest = lastMs;
  for (let place = 0; place < TIME_DIGITS; place += 1) {
    time = DIGITS[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  return time + Array.from(lastRandom, (digit) => DIGITS[digit]).join("");
}

/**
 * The next number, in digits up to 31. False when there is none.
 *
 * @param {Uint8Array} digits
 */
function increment(digits) {
  for (let place = digits.length - 1; place >= 0; place -= 1) {
    digits[place] = (digits[place] + 1) % 32;
    if (digits[place] !== 0) return true;
  }
  return false;
}

/**
 * @param {unknown} name
 * @param {string} what
 * @param {number} bytesMax
 */
function checkName(name, what, bytesMax) {
  if (typeof name !== "string") throw new TypeError(`${what} must be a string`);
  const bytes = utf8Length(name);
  if (bytes < 1 || bytes > bytesMax) throw new RangeError(`${what} must have 1 to ${bytesMax} bytes, not ${bytes}`);
  if (NOT_IN_NAMES.test(name)) throw new RangeError(`${what} must not contain "/" or control characters`);
  return name;
}

/** @param {unknown} name */
export function checkUser(name) {
  return checkName(name, "a user name", USER_BYTES_MAX);
}

/** @param {unknown} name */
export function checkDevice(name) {
  return checkName(name, "a device name", DEVICE_BYTES_MAX);
}

/** @param {unknown} id */
export function checkMessageId(id) {
  if (typeof id !== "string") throw new TypeError("a message id must be a string");
  if (!MESSAGE_ID.test(id)) throw new RangeError("a message id has 1 to 64 of A-Z a-z 0-9 . _ : -");
  return id;
}

/**
 * The name of a message for its recipient, or of a send for its sender: a user name has no slash in it.
 *
 * @param {string} user
 * @param {string} id
 */
export function messageName(user, id) {
  return `${user}/${id}`;
}
