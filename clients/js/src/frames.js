// Frames of the router, read.
//
// A message must never be taken for delivered that could not be read. A body that is no JSON is another matter: the
// envelope around it says what it is about, so that it can be put aside by name.

/**
 * @typedef {object} Limits
 * @property {number} frameBytes
 * @property {number} bodyBytes
 * @property {number} window
 * @property {number} sendsInFlight
 * @property {number} heartbeatMs
 *
 * @typedef {object} Welcome
 * @property {string} user
 * @property {string} device
 * @property {string} session
 * @property {number} protocol
 * @property {string} server
 * @property {boolean} registered
 * @property {boolean} gap
 * @property {number} pending
 * @property {number} cursor
 * @property {number} [expiresMs]
 * @property {Limits} limits
 */

/** What a frame of the router is when it is no object, or its JSON is broken where that matters. */
export const UNREADABLE = Symbol("unreadable");

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\]|\\[^])*"/y;
const SCALAR = /[^,}\]\s"]+/y;

/**
 * The fields of a frame. Where only the body is no JSON, `body` is missing, and `bodyText` and `bodyError` are there.
 *
 * @param {string} text
 * @returns {Record<string, any> | typeof UNREADABLE}
 */
export function readFrame(text) {
  try {
    const frame = JSON.parse(text);
    return typeof frame === "object" && frame !== null ? frame : UNREADABLE;
  } catch (error) {
    const fields = readEnvelope(text);
    if (fields === undefined || fields.bodyText === undefined) return UNREADABLE;
    return { ...fields, bodyError: error };
  }
}

/**
 * @param {string} text
 * @returns {Record<string, any> | undefined}
 */
function readEnvelope(text) {
  const reader = new Reader(text);
  /** @type {Record<string, any>} */
  const fields = Object.create(null);
  if (!reader.take("{")) return undefined;
  try {
    do {
      const key = JSON.parse(reader.match(STRING));
      if (!reader.take(":")) return undefined;
      if (key === "body") fields.bodyText = reader.value();
      else fields[key] = JSON.parse(reader.value());
    } while (reader.take(","));
  } catch {
    return undefined;
  }
  return fields;
}

/** Walks over JSON without asking whether what it walks over is right. */
class Reader {
  #text;
  #place = 0;

  /** @param {string} text */
  constructor(text) {
    this.#text = text;
  }

  /** @param {RegExp} pattern a sticky one */
  match(pattern) {
    this.#skip();
    pattern.lastIndex = this.#place;
    const found = pattern.exec(this.#text)?.[0] ?? "";
    this.#place += found.length;
    return found;
  }

  /** @param {string} mark */
  take(mark) {
    this.#skip();
    if (this.#text[this.#place] !== mark) return false;
    this.#place += 1;
    return true;
  }

  /** One value: up to where its brackets are closed; to the end of the frame when they never are. */
  value() {
    this.#skip();
    const start = this.#place;
    let depth = 0;
    while (this.#place < this.#text.length) {
      const mark = this.#text[this.#place] ?? "";
      if (depth === 0 && ",}]".includes(mark)) break;
      if ("[{".includes(mark)) depth += 1;
      if ("]}".includes(mark)) depth -= 1;
      if ("[{]},:".includes(mark)) this.#place += 1;
      else if (this.match(mark === '"' ? STRING : SCALAR) === "") this.#place += 1;
      this.#skip();
    }
    return this.#text.slice(start, this.#place);
  }

  #skip() {
    SPACE.lastIndex = this.#place;
    this.#place += SPACE.exec(this.#text)?.[0].length ?? 0;
  }
}

/** @param {unknown} value */
export function isCount(value) {
  return Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;
}

/**
 * The bound that the router names, or what the protocol says it is by default.
 *
 * @param {unknown} value
 * @param {number} byDefault
 */
function bound(value, byDefault) {
  return isCount(value) ? Math.max(1, /** @type {number} */ (value)) : byDefault;
}

/**
 * @param {Record<string, any>} frame
 * @returns {Welcome}
 */
export function readWelcome(frame) {
  const limits = frame.limits ?? {};
  return {
    user: frame.user,
    device: frame.device,
    session: frame.session,
    protocol: frame.protocol,
    server: frame.server,
    registered: frame.registered === true,
    gap: frame.gap === true,
    pending: frame.pending ?? 0,
    cursor: frame.cursor ?? 0,
    expiresMs: isCount(frame.expires_ms) ? frame.expires_ms : undefined,
    limits: {
      frameBytes: bound(limits.frame_bytes, 131_072),
      bodyBytes: bound(limits.body_bytes, 65_536),
      window: bound(limits.window, 256),
      sendsInFlight: bound(limits.sends_in_flight, 256),
      heartbeatMs: bound(limits.heartbeat_ms, 30_000),
    },
  };
}
