// The stream of `/v1/events`. Read with `fetch` and not with `EventSource`, because that one tells nobody why it was
// refused, and gives up for good on a 502, which is what a daemon that is being restarted looks like.

import { ApiError, api, problem, sentence } from "./api.js";

/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {{ type: string, data: any }} LiveEvent */
/**
 * @typedef {object} LiveState
 * @property {"connecting" | "live" | "asking" | "down"} state `asking`: figures are asked for, because no place to listen is free
 * @property {string} reason
 * @property {boolean} isRefused the daemon is there, and does not let this page listen
 * @property {number} retryAtMs
 */

const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 15_000;
/** Something comes every second, a comment at least; a stream that says nothing for so long is a dead one. */
const SILENCE_MS = 6000;
/** How often figures are asked for where they cannot be listened to. */
const ASK_EVERY_MS = 1000;

export class Live {
  /** @type {LiveState} */
  state = { state: "connecting", reason: "", isRefused: false, retryAtMs: 0 };
  #handlers = { state: /** @type {Set<(state: LiveState) => void>} */ (new Set()), event: /** @type {Set<(event: LiveEvent) => void>} */ (new Set()) };
  #backoffMs = BACKOFF_MIN_MS;
  #wake = () => {};

  /** @param {(state: LiveState) => void} handler @returns {() => void} takes it off again */
  onState(handler) {
    this.#handlers.state.add(handler);
    return () => this.#handlers.state.delete(handler);
  }

  /** @param {(event: LiveEvent) => void} handler @returns {() => void} takes it off again */
  onEvent(handler) {
    this.#handlers.event.add(handler);
    return () => this.#handlers.event.delete(handler);
  }

  /** Connects again and again, for as long as the page lives. */
  async run() {
    for (;;) {
      const { reason, isRefused, isFull } = await this.#listen();
      const waitMs = this.#backoffMs * (0.5 + Math.random() / 2);
      this.#backoffMs = Math.min(this.#backoffMs * 2, BACKOFF_MAX_MS);
      const away = { state: /** @type {const} */ ("down"), reason, isRefused, retryAtMs: Date.now() + waitMs };
      if (isFull && (await this.#askUntil(away))) continue;
      this.#become(away);
      await this.#rest(away.retryAtMs - Date.now());
    }
  }

  /**
   * Asks for the figures until it is time to try to listen again.
   *
   * @param {LiveState} away
   * @returns {Promise<boolean>} whether there were answers
   */
  async #askUntil(away) {
    try {
      while (Date.now() < away.retryAtMs) {
        const stats = await api.stats();
        this.#become({ ...away, state: "asking" });
        this.#hand({ type: "stats", data: stats });
        if (await this.#rest(Math.min(ASK_EVERY_MS, away.retryAtMs - Date.now()))) break;
      }
      return true;
    } catch {
      // Why, the next try to listen will tell.
      return false;
    }
  }

  /**
   * @param {number} ms
   * @returns {Promise<boolean>} whether it was cut short
   */
  #rest(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.max(0, ms));
      this.#wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  /** Does not wait any longer. */
  tryNow() {
    this.#backoffMs = BACKOFF_MIN_MS;
    this.#wake();
  }

  /** @returns {Promise<{ reason: string, isRefused: boolean, isFull?: boolean }>} why it ended */
  async #listen() {
    const stop = new AbortController();
    let silence = setTimeout(() => stop.abort(), SILENCE_MS);
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE_MS);
    };
    try {
      const response = await fetch("/v1/events", { signal: stop.signal, cache: "no-store", headers: { accept: "text/event-stream" } });
      if (!response.ok || response.body === null) throw problem(response, await response.text());
      for await (const event of parse(chunks(response.body, heard))) this.#tell(event);
      return { reason: "The daemon has ended the stream.", isRefused: false };
    } catch (error) {
      if (error instanceof ApiError) {
        return { reason: sentence(error), isRefused: !error.unreachable, isFull: error.code === "too_many_listeners" };
      }
      const reason = stop.signal.aborted ? "The daemon has fallen silent." : "Nothing answers: has “doorstep dashboard” ended?";
      return { reason, isRefused: false };
    } finally {
      clearTimeout(silence);
      stop.abort();
    }
  }

  /** @param {LiveEvent} event */
  #tell(event) {
    if (this.state.state !== "live") {
      this.#backoffMs = BACKOFF_MIN_MS;
      this.#become({ state: "live", reason: "", isRefused: false, retryAtMs: 0 });
    }
    this.#hand(event);
  }

  /** @param {LiveEvent} event */
  #hand(event) {
    for (const handler of this.#handlers.event) handler(event);
  }

  /** @param {LiveState} state */
  #become(state) {
    this.state = state;
    for (const handler of this.#handlers.state) handler(state);
  }
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @param {() => void} heard called for each piece
 * @returns {AsyncGenerator<string>}
 */
async function* chunks(body, heard) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    yield decoder.decode(value, { stream: true });
  }
}

/**
 * Server-sent events out of pieces of text that may end anywhere. Comments and what is no JSON are passed over.
 *
 * @param {AsyncIterable<string>} pieces
 * @returns {AsyncGenerator<LiveEvent>}
 */
export async function* parse(pieces) {
  let rest = "";
  let type = "message";
  let data = "";
  for await (const piece of pieces) {
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        const event = read(type, data);
        if (event !== null) yield event;
        type = "message";
        data = "";
      } else if (line.startsWith("event:")) {
        type = line.slice(6).trim();
      } else if (line.startsWith("data:")) {
        data += line.slice(5).trimStart();
      }
    }
  }
}

/**
 * @param {string} type
 * @param {string} data
 * @returns {LiveEvent | null}
 */
function read(type, data) {
  if (data === "") return null;
  try {
    return { type, data: JSON.parse(data) };
  } catch {
    return null;
  }
}
