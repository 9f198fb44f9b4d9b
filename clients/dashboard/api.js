// The admin API, as `doorstep dashboard` hands it through. What goes wrong becomes an `ApiError` with a sentence for people.

import { parseKeepingBodies } from "./bodies.js";

/** @typedef {{ user: string, state: string, text?: string, last_seen_ms?: number, version?: number }} Presence */
/** @typedef {{ device: string, cursor: number, pushed_upto: number, last_seen_ms: number, backlog_messages: number, backlog_bytes: number, in_flight: number, live: boolean }} Device */
/** @typedef {{ session: string, user: string, device: string, state: string, peer: string, attached_ms: number, window: number, in_flight: number }} Session */
/** @typedef {{ user: string, presence: Presence, own_state: string, backlog_messages: number, backlog_bytes: number, watchers: number, devices: Device[], sessions: Session[] }} User */
/** @typedef {{ seq: number, id: string, from: string, ts_ms: number, expires_ms: number, retry: boolean, body_bytes: number, body?: string }} Message */
/** @typedef {{ key: string, reason: string, user: string, device?: string, seq: number, buried_ms: number, message: Message | null }} DeadLetter */
/** @typedef {{ user: string, messages: number, bytes: number, oldest_ms?: number | null }} Queue */
/** @typedef {{ live: boolean, ready: boolean, draining: boolean, store: string, commit_running_ms: number, disk_free_bytes: number, ceiling_left_ms: number, expiry_paused: boolean }} Health */
/** @typedef {{ mean: number, p50: number, p99: number }} Summary */
/**
 * @typedef {object} Stats
 * @property {number} [at_ms]
 * @property {string} version
 * @property {number} started_ms
 * @property {number} uptime_ms
 * @property {number} connections
 * @property {number} sessions
 * @property {number} users_online
 * @property {number} users_loaded
 * @property {number} pending_appends
 * @property {{ messages: number, bytes: number }} queues
 * @property {Record<string, number> & { commit_seconds: Summary | null } | null} rates
 * @property {number | null} elided_share
 * @property {Summary | null} commit_seconds
 * @property {Summary | null} commit_changes
 * @property {Record<string, number>} counters
 */

/** The proxy takes what changes something only with this header, which no other site can make a browser send. */
const CHANGING = { "x-doorstep-dashboard": "1" };

/** An answer that never comes must not leave a page waiting for ever. */
const TIMEOUT_MS = 15_000;

/** What the codes of problem documents mean to somebody who has just pressed a button. */
const PLAIN = /** @type {Record<string, string>} */ ({
  bad_request: "The daemon could not use this request.",
  not_found: "There is no such thing (any more).",
  method_not_allowed: "The daemon does not know this call. It may be of another version than this page.",
  request_timeout: "The request took too long to arrive.",
  id_reused: "This message id was used for another message.",
  expired: "The message's time ran out before it was safe.",
  too_large: "The message is larger than the daemon allows.",
  queue_full: "The queue is full. Try again when some of it has been taken.",
  overloaded: "The daemon has too much to do. Try again in a moment; nothing was done.",
  storage_unavailable: "The disk is full or failing; nothing was done.",
  shutting_down: "The daemon is about to stop; nothing was done.",
  unknown_outcome: "No answer came in time. It may have been done, or may still be: look again in a moment.",
  corrupt: "There is no message in this dead letter that could be read.",
  too_many_listeners: "Eight pages or programs listen to the daemon already, which is all that it allows.",
  internal: "Something went wrong inside the daemon. Its log says more.",
});

export class ApiError extends Error {
  /**
   * @param {string} message for people
   * @param {{ status?: number, code?: string, unreachable?: boolean }} [about] `unreachable`: nobody answered for the daemon
   */
  constructor(message, { status = 0, code = "", unreachable = false } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.unreachable = unreachable;
  }
}

/**
 * The sentence for whatever a call threw.
 *
 * @param {unknown} error
 */
export const sentence = (error) => (error instanceof Error ? error.message : String(error));

/**
 * Turns an answer that is no success into an error.
 *
 * @param {Response} response
 * @param {string} text
 */
export function problem(response, text) {
  const { status } = response;
  const document = readProblem(text);
  if (document?.code !== undefined && document.code in PLAIN) {
    return new ApiError(explained(document), { status, code: document.code });
  }
  if (status === 401 || status === 403) {
    return new ApiError(
      document?.detail ?? "This page may not ask any more. Run “doorstep dashboard” again and open the address that it prints.",
      { status, code: document?.code },
    );
  }
  if (status === 502 || status === 503 || status === 504) {
    return new ApiError("The daemon does not answer.", { status, code: document?.code, unreachable: true });
  }
  return new ApiError(document?.detail ?? `The answer was ${status} ${response.statusText}.`, { status, code: document?.code });
}

/**
 * @param {string} text
 * @returns {{ code?: string, detail?: string, retry_after_ms?: number } | null}
 */
function readProblem(text) {
  try {
    const document = JSON.parse(text);
    return typeof document === "object" ? document : null;
  } catch {
    return null;
  }
}

/** @param {{ code?: string, detail?: string }} document */
function explained({ code = "", detail }) {
  const own = detail === undefined || detail === "" ? "" : detail[0].toUpperCase() + detail.slice(1);
  if (own === "") return PLAIN[code];
  const ended = /[.!?]$/.test(own) ? own : `${own}.`;
  return code === "bad_request" || code === "not_found" ? ended : `${PLAIN[code]} (${ended})`;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} [query] what is not given is left out
 * @returns {Promise<any>}
 */
async function call(method, path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  // Not URLSearchParams: it writes a space as `+`, and to the admin API a `+` is a plus.
  const search = given.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
  let response;
  let text;
  try {
    response = await fetch(search === "" ? path : `${path}?${search}`, {
      method,
      headers: method === "GET" ? {} : CHANGING,
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    text = await response.text();
  } catch (error) {
    const late = error instanceof DOMException && error.name === "TimeoutError";
    const said = late ? "No answer came in time." : "Nothing answers: has “doorstep dashboard” ended?";
    throw new ApiError(said, { unreachable: true });
  }
  const isHealth = path === "/v1/health" && response.status === 503 && text.includes('"live"');
  if (!response.ok && !isHealth) throw problem(response, text);
  return parseKeepingBodies(text);
}

/** @param {string} name */
const part = (name) => encodeURIComponent(name);

export const api = {
  /** @returns {Promise<Health>} */
  health: () => call("GET", "/v1/health"),
  /** @returns {Promise<Stats>} */
  stats: () => call("GET", "/v1/stats"),
  /** @returns {Promise<Record<string, Record<string, unknown>>>} */
  config: () => call("GET", "/v1/config"),
  /** @returns {Promise<{ draining: boolean }>} */
  drain: () => call("POST", "/v1/drain"),
  /** @returns {Promise<{ was_paused: boolean }>} */
  resumeExpiry: () => call("POST", "/v1/expiry/resume"),

  /** @param {{ online?: boolean, limit?: number, after?: string }} query @returns {Promise<{ users: Presence[], next: string | null }>} */
  users: (query) => call("GET", "/v1/users", query),
  /** @param {string} user @returns {Promise<User>} */
  user: (user) => call("GET", `/v1/users/${part(user)}`),
  /** @param {string} user @param {string} device */
  forgetDevice: (user, device) => call("DELETE", `/v1/users/${part(user)}/devices/${part(device)}`),

  /** @param {{ sort?: string, limit?: number }} query @returns {Promise<{ queues: Queue[], complete: boolean }>} */
  queues: (query) => call("GET", "/v1/queues", query),
  /** @param {string} user @returns {Promise<Queue & { devices: Device[] }>} */
  queue: (user) => call("GET", `/v1/queues/${part(user)}`),
  /**
   * @param {string} user
   * @param {{ from?: number, after?: string, limit?: number, bodies?: boolean }} query
   * @returns {Promise<{ messages: Message[], corrupt: unknown[], next: string | null }>}
   */
  messages: (user, query) => call("GET", `/v1/queues/${part(user)}/messages`, query),
  /** @param {string} user @returns {Promise<{ purged: number }>} */
  purgeQueue: (user) => call("DELETE", `/v1/queues/${part(user)}`),
  /** @param {string} user @param {number} seq @returns {Promise<{ purged: number }>} */
  purgeMessage: (user, seq) => call("DELETE", `/v1/queues/${part(user)}/messages/${seq}`),

  /** @param {{ limit?: number, after?: string }} query @returns {Promise<{ sessions: Session[], next: string | null }>} */
  sessions: (query) => call("GET", "/v1/sessions", query),
  /** @param {string} session */
  kick: (session) => call("DELETE", `/v1/sessions/${part(session)}`),

  /** @param {{ limit?: number, after?: string, bodies?: boolean }} query @returns {Promise<{ dead_letters: DeadLetter[], next: string | null }>} */
  deadLetters: (query) => call("GET", "/v1/dead-letters", query),
  /** @param {string} key @returns {Promise<{ user: string, seq: number }>} */
  requeue: (key) => call("POST", `/v1/dead-letters/${part(key)}/requeue`),
  /** @returns {Promise<{ cleared: number }>} */
  clearDeadLetters: () => call("DELETE", "/v1/dead-letters"),
};
