// What a client needs to know before it connects, checked.

import { systemClock } from "./clock.js";
import { checkDevice, checkUser } from "./ids.js";
import { currentPage } from "./page.js";

const CONNECT_PATH = "/v1/connect";
const OWN_STATES = new Set(["online", "away", "busy", "invisible"]);
const STATUS_TEXT_CHARS_MAX = 140;

/**
 * @typedef {object} Options
 * @property {string | URL} url `ws://host:port/v1/connect`
 * @property {string} [user] who this is, where the router lets clients name themselves; beside `token`: whose it is
 * @property {import("./tokens.js").TokenProvider} [token]
 * @property {string} [device] one installation of a client; made and kept when left out
 * @property {import("./storage/storage.js").Storage | null} [storage]
 * @property {any} [WebSocket] default: the one of the platform
 * @property {number} [window] messages that may be unacked at once
 * @property {import("./presence.js").OwnState} [status] default `online`
 * @property {number} [sendTimeoutMs] default 30 000, with storage none
 * @property {number} [connectTimeoutMs] default 10 000
 * @property {number} [backoffMinMs] default 250
 * @property {number} [backoffMaxMs] default 30 000
 * @property {number} [handlerAttempts] default 5
 * @property {number} [outboxMessagesMax] default 10 000
 * @property {number} [outboxBytesMax] default 16 MiB
 * @property {(message: import("./handlers.js").Message) => unknown} [onMessage]
 * @property {(message: import("./handlers.js").PoisonedMessage, error: unknown) => unknown} [onPoison]
 * @property {(error: unknown) => void} [onError] default: `reportError`, or the console
 * @property {import("./clock.js").Clock} [clock] for tests
 * @property {() => number} [random] for tests
 * @property {import("./page.js").Page} [page] for tests
 * @property {import("./locks.js").Locks | null} [locks] for tests
 */

/** @param {Options} options */
export function checkOptions(options) {
  if (typeof options !== "object" || options === null) throw new TypeError("a client needs options");
  const { user, token, device, storage, clock = systemClock, random = Math.random } = options;
  if (user === undefined && token === undefined) throw new TypeError("a client needs a user or a token");
  return {
    url: checkUrl(options.url),
    user: user === undefined ? undefined : checkUser(user),
    token: checkFunction(token, "token"),
    device: device === undefined ? undefined : checkDevice(device),
    storage: storage === undefined || storage === null ? storage : checkStorage(storage),
    WebSocket: checkWebSocket(options.WebSocket ?? globalThis.WebSocket),
    window: checkCount(options.window, "window", undefined, 2 ** 32 - 1),
    status: checkState(options.status ?? "online"),
    sendTimeoutMs: checkMs(options.sendTimeoutMs, "sendTimeoutMs"),
    connectTimeoutMs: checkMs(options.connectTimeoutMs, "connectTimeoutMs") ?? 10_000,
    backoffMinMs: checkMs(options.backoffMinMs, "backoffMinMs") ?? 250,
    backoffMaxMs: checkMs(options.backoffMaxMs, "backoffMaxMs") ?? 30_000,
    handlerAttempts: checkCount(options.handlerAttempts, "handlerAttempts", 5),
    outboxMessagesMax: checkCount(options.outboxMessagesMax, "outboxMessagesMax", 10_000),
    outboxBytesMax: checkCount(options.outboxBytesMax, "outboxBytesMax", 16 << 20),
    onMessage: checkFunction(options.onMessage, "onMessage"),
    onPoison: checkFunction(options.onPoison, "onPoison"),
    onError: checkFunction(options.onError, "onError"),
    clock,
    random,
    page: options.page ?? currentPage(),
    locks: options.locks,
  };
}

/** @param {unknown} url */
function checkUrl(url) {
  if (typeof url !== "string" && !(url instanceof URL)) throw new TypeError("url must be a string or a URL");
  let parsed;
  try {
    parsed = new URL(url, globalThis.location?.href);
  } catch (cause) {
    throw new TypeError(`url is none: ${url}`, { cause });
  }
  if (parsed.protocol === "http:") parsed.protocol = "ws:";
  if (parsed.protocol === "https:") parsed.protocol = "wss:";
  if (!/^wss?:$/.test(parsed.protocol)) throw new RangeError("url must begin with ws: or wss:");
  if (parsed.pathname === "/") parsed.pathname = CONNECT_PATH;
  parsed.hash = "";
  return parsed.href;
}

/** @param {any} constructor */
function checkWebSocket(constructor) {
  if (typeof constructor === "function") return constructor;
  throw new TypeError("there is no WebSocket here: pass one as an option, such as that of the package ws");
}

/** @param {import("./storage/storage.js").Storage} storage */
function checkStorage(storage) {
  if (typeof storage.load === "function" && typeof storage.write === "function") return storage;
  throw new TypeError("storage must have the methods load and write");
}

/**
 * @template T
 * @param {T} value
 * @param {string} name
 * @returns {T}
 */
function checkFunction(value, name) {
  if (value !== undefined && typeof value !== "function") throw new TypeError(`${name} must be a function`);
  return value;
}

/**
 * @template {number | undefined} T
 * @param {number | undefined} value
 * @param {string} name
 * @param {T} byDefault
 * @param {number} [max]
 * @returns {number | T}
 */
function checkCount(value, name, byDefault, max = Number.MAX_SAFE_INTEGER) {
  if (value === undefined) return byDefault;
  if (Number.isSafeInteger(value) && value >= 1 && value <= max) return value;
  throw new RangeError(`${name} must be a whole number from 1`);
}

/**
 * @param {number | undefined} value
 * @param {string} name
 */
function checkMs(value, name) {
  if (value === undefined || (typeof value === "number" && value >= 0)) return value;
  throw new RangeError(`${name} must be a number of milliseconds`);
}

/** @param {unknown} state */
export function checkState(state) {
  if (typeof state !== "string" || !OWN_STATES.has(state)) {
    throw new RangeError(`a status is one of ${[...OWN_STATES].join(", ")}`);
  }
  return /** @type {import("./presence.js").OwnState} */ (state);
}

/** @param {unknown} text */
export function checkStatusText(text) {
  if (text === undefined) return undefined;
  if (typeof text !== "string") throw new TypeError("a status text must be a string");
  if ([...text].length <= STATUS_TEXT_CHARS_MAX) return text;
  throw new RangeError(`a status text has at most ${STATUS_TEXT_CHARS_MAX} characters`);
}
