// Durable sends: from the call into the storage, from there to the router, and the answer back.
//
// No frame goes out before its message is stored.

import { Timer } from "./clock.js";
import { ClosedError } from "./errors.js";
import { bodyText, sendText } from "./fitting.js";
import { isCount } from "./frames.js";
import { checkMessageId, checkUser, newId } from "./ids.js";
import { Outbox, failure } from "./outbox.js";

/** Bytes in the socket from which on sends wait. */
const BUFFERED_BYTES_MAX = 4 << 20;
/** How long a send is tried where nothing is kept. */
const TIMEOUT_MS = 30_000;
/** How often a full socket is looked at: it does not say when it has room. */
const DRAIN_MS = 20;

/** @typedef {import("./outbox.js").Entry} Entry */
/** @typedef {import("./outbox.js").Accepted} Accepted */
/** @typedef {import("./errors.js").SendError} SendError */
/** @typedef {{ connection: import("./connection.js").Connection, limits: import("./frames.js").Limits }} Online */

/**
 * @typedef {object} SendOptions
 * @property {string} [id] never used before by any device of this user; made when left out
 * @property {number} [ttlMs] how long it may wait at the router
 * @property {number} [timeoutMs] how long the client goes on trying, instead of `sendTimeoutMs`; `Infinity`: for ever
 * @property {boolean} [retry] it may have been taken in an earlier attempt under the same id
 *
 * @typedef {{ id: string, to: string, seq: number, stored: boolean, error?: undefined }
 *   | { id: string, to: string, seq?: undefined, stored?: undefined, error: SendError }} Settled
 */

export class Sender {
  #outbox;
  #clock;
  #timeoutMs;
  #settled;
  /** What is not answered stays in the storage when the client ends. */
  #keeps = false;
  /** @type {import("./journal.js").Journal | undefined} */
  #journal = undefined;
  /**
   * Calls from before the storage was there.
   *
   * @type {Array<{ submit: () => void, reject: (error: unknown) => void }>}
   */
  #early = [];
  /** @type {Online | undefined} */
  #online = undefined;
  #drain;

  /**
   * @param {object} setting
   * @param {import("./clock.js").Clock} setting.clock
   * @param {() => number} setting.random
   * @param {number | undefined} setting.sendTimeoutMs
   * @param {number} setting.outboxMessagesMax
   * @param {number} setting.outboxBytesMax
   * @param {(settled: Settled) => void} setting.settled
   */
  constructor({ clock, random, sendTimeoutMs, outboxMessagesMax, outboxBytesMax, settled }) {
    this.#clock = clock;
    this.#timeoutMs = sendTimeoutMs;
    this.#settled = settled;
    this.#drain = new Timer(clock, () => this.#flow());
    this.#outbox = new Outbox({
      clock,
      random,
      messagesMax: outboxMessagesMax,
      bytesMax: outboxBytesMax,
      due: () => this.#flow(),
      expired: (entry) => this.#fail(entry, "timeout", timeoutReason(entry)),
    });
  }

  /** @param {import("./state.js").State} stored what an earlier process left, and where to keep more */
  open({ journal, keeps, outbox }) {
    this.#journal = journal;
    this.#keeps = keeps;
    this.#outbox.load(outbox);
    for (const { submit } of this.#early.splice(0)) submit();
  }

  /**
   * What an earlier process left cannot be read, so that nothing can be sent.
   *
   * @param {unknown} error
   */
  openFailed(error) {
    for (const { reject } of this.#early.splice(0)) reject(error);
  }

  get unanswered() {
    return this.#outbox.entries.map(({ id, to, body, createdMs }) => ({ id, to, body: JSON.parse(body), createdMs }));
  }

  /**
   * @param {string} to
   * @param {unknown} body
   * @param {SendOptions} options
   * @returns {Promise<Accepted>}
   */
  send(to, body, { id = newId(), ttlMs, timeoutMs = this.#timeoutMs, retry = false } = {}) {
    const send = {
      id: checkMessageId(id),
      to: checkUser(to),
      body: bodyText(body),
      ttlMs: ttlMs === undefined ? undefined : checkTtl(ttlMs),
      createdMs: this.#clock.wallMs(),
    };
    checkTimeout(timeoutMs);
    return new Promise((resolve, reject) => {
      const submit = () => this.#submit(this.#withDeadline(send, timeoutMs), retry === true, resolve, reject);
      if (this.#journal !== undefined) submit();
      else this.#early.push({ submit, reject });
    });
  }

  /**
   * @param {import("./outbox.js").StoredSend} send
   * @param {number | undefined} timeoutMs
   */
  #withDeadline(send, timeoutMs = this.#keeps ? Infinity : TIMEOUT_MS) {
    return timeoutMs === Infinity ? send : { ...send, deadlineMs: send.createdMs + timeoutMs };
  }

  /**
   * @param {import("./outbox.js").StoredSend} send
   * @param {boolean} retry
   * @param {(accepted: Accepted) => void} resolve
   * @param {(error: unknown) => void} reject
   */
  #submit(send, retry, resolve, reject) {
    let entry;
    try {
      entry = Object.assign(this.#outbox.add(send, retry), { resolve, reject });
    } catch (error) {
      return reject(error);
    }
    this.#journal?.try([[entry.key, send]]).then(
      () => {
        entry.written = true;
        this.#flow();
      },
      (cause) => this.#fail(entry, "storage_failed", "it could not be stored here", { cause }),
    );
  }

  /** @param {Online} online */
  connected(online) {
    this.#online = online;
    this.#flow();
  }

  disconnected() {
    this.pause();
    this.#outbox.disconnected();
  }

  /** Nothing goes out any more on this connection; answers still count. */
  pause() {
    this.#online = undefined;
    this.#drain.clear();
  }

  /** @param {Record<string, any>} frame */
  accepted({ id, to, seq, stored }) {
    const entry = this.#outbox.find(to, id);
    if (entry === undefined) return;
    const accepted = { id: entry.id, seq, stored: stored === true };
    this.#end(entry, () => {
      entry.resolve(accepted);
      this.#settled({ ...accepted, to: entry.to });
    });
  }

  /**
   * Says what it was about: `known` is false when it was none of these messages, `news` is there when one is put off
   * for another reason than before.
   *
   * @param {Record<string, any>} frame
   * @returns {{ known: boolean, news?: Entry }}
   */
  rejected({ id, to, code, reason, retry_after_ms }) {
    const entry = this.#outbox.find(to, id);
    if (entry === undefined) return { known: false };
    const retryAfterMs = isCount(retry_after_ms) ? retry_after_ms : undefined;
    const outcome = this.#outbox.rejected(entry, code, retryAfterMs);
    if (outcome === "final") {
      entry.inFlight = false;
      this.#fail(entry, code, reason);
    }
    this.#flow();
    return outcome === "put_off" ? { known: true, news: entry } : { known: true };
  }

  /**
   * The client ends: every call gets its answer.
   *
   * @param {boolean} forgotten what is stored goes too
   */
  close(forgotten) {
    this.pause();
    this.openFailed(new ClosedError());
    this.#outbox.stop();
    for (const entry of this.#outbox.entries) {
      if (this.#keeps && entry.written && !forgotten) this.#keep(entry);
      else this.#fail(entry, "closed", "the client is closed");
    }
  }

  /** As if the process had ended. */
  abandon() {
    this.pause();
    this.#outbox.stop();
    this.#journal = undefined;
  }

  /** @param {Entry} entry */
  #keep(entry) {
    this.#outbox.remove(entry);
    const maybeTaken = entry.maybeTaken || entry.inFlight;
    entry.reject(failure(entry, "closed", "the client is closed; the message is kept", maybeTaken, { kept: true }));
  }

  /** Says whatever may be said now. */
  #flow() {
    while (this.#online !== undefined && !this.#drain.isSet) {
      const { connection, limits } = this.#online;
      const due = this.#outbox.due(limits.sendsInFlight);
      if (due.length === 0) return;
      const unfit = this.#write(due, connection, limits);
      if (unfit === undefined) return;
      this.#fail(unfit.entry, unfit.code, unfit.reason);
    }
  }

  /**
   * Writes up to the first message that does not fit this router, and returns that.
   *
   * @param {Entry[]} due
   * @param {import("./connection.js").Connection} connection
   * @param {import("./frames.js").Limits} limits
   */
  #write(due, connection, limits) {
    const sent = [];
    let unfit;
    for (const entry of due) {
      if (connection.bufferedBytes > BUFFERED_BYTES_MAX) {
        this.#drain.set(DRAIN_MS);
        break;
      }
      const frame = sendText({ ...entry, retry: entry.maybeTaken }, limits);
      if (frame.unfit !== undefined) {
        unfit = { entry, ...frame.unfit };
        break;
      }
      if (!connection.send(frame.text)) break;
      sent.push(entry);
    }
    this.#outbox.sent(sent);
    return unfit;
  }

  /**
   * @param {Entry} entry
   * @param {SendError["code"]} code
   * @param {string} reason
   * @param {{ cause?: unknown }} [more]
   */
  #fail(entry, code, reason, more) {
    const error = failure(entry, code, reason, entry.maybeTaken || entry.inFlight, more);
    const tell = () => {
      entry.reject(error);
      this.#settled({ id: entry.id, to: entry.to, error });
    };
    // Whoever set a time is told when it is over, also when the storage hangs.
    this.#end(entry, tell, code !== "timeout");
  }

  /**
   * The message has its answer. The application hears of it when that is stored, because a message that it was told to
   * have failed must not be sent by the next process.
   *
   * @param {Entry} entry
   * @param {() => void} tell
   * @param {boolean} waits
   */
  #end(entry, tell, waits = true) {
    if (!this.#outbox.remove(entry)) return;
    // The journal tries until the client ends, and reports what goes wrong.
    const written = this.#journal?.must([[entry.key, undefined]]).catch(() => {});
    if (written === undefined || !waits) tell();
    else void written.then(tell);
    this.#flow();
  }
}

/** @param {Entry} entry */
function timeoutReason({ lastCode }) {
  return lastCode === undefined ? "no acceptance in time" : `no acceptance in time, last answer ${lastCode}`;
}

/** @param {unknown} ttlMs */
function checkTtl(ttlMs) {
  if (!isCount(ttlMs) || ttlMs === 0) throw new RangeError("ttlMs must be a whole number from 1");
  return /** @type {number} */ (ttlMs);
}

/** @param {unknown} timeoutMs */
function checkTimeout(timeoutMs) {
  if (timeoutMs === undefined || (typeof timeoutMs === "number" && timeoutMs > 0)) return;
  throw new RangeError("timeoutMs must be a number above 0");
}
