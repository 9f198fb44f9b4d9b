// What can go wrong, as types.

/**
 * @typedef {"bad_request" | "unknown_type" | "too_large" | "forbidden" | "id_reused" | "rate_limited" | "queue_full"
 *   | "overloaded" | "storage_unavailable" | "shutting_down" | "unknown_outcome" | "expired"} RouterCode
 * What the router says.
 *
 * @typedef {"timeout" | "closed" | "outbox_full" | "already_pending" | "storage_failed"} LocalCode
 * What this side says.
 */

/** The message is not known to be safe. */
export class SendError extends Error {
  /**
   * @param {object} what
   * @param {string} what.id
   * @param {string} what.to
   * @param {RouterCode | LocalCode} what.code
   * @param {string} what.reason for people
   * @param {boolean} what.maybeTaken
   * @param {boolean} [what.kept]
   * @param {unknown} [what.cause]
   */
  constructor({ id, to, code, reason, maybeTaken, kept = false, cause }) {
    const tail = maybeTaken ? " (it may have been taken)" : "";
    super(`message ${id} to ${to} was not accepted: ${reason} [${code}]${tail}`, cause === undefined ? {} : { cause });
    this.name = "SendError";
    /** @readonly */
    this.id = id;
    /** @readonly */
    this.to = to;
    /** @readonly */
    this.code = code;
    /**
     * `false`: it was certainly not taken. `true`: it may still arrive; to be sure, send it again with the same id,
     * body and recipient and `retry: true`, which cannot make it two messages.
     *
     * @readonly
     */
    this.maybeTaken = maybeTaken;
    /**
     * The client ended, and the message is still in its storage: the next client of this device sends it.
     *
     * @readonly
     */
    this.kept = kept;
  }
}

/** The client has ended, or was not started. */
export class ClosedError extends Error {
  constructor(message = "the client is closed") {
    super(message);
    this.name = "ClosedError";
  }
}

/** There is no connection at the moment, or it was lost meanwhile. */
export class NotConnectedError extends Error {
  constructor(message = "there is no connection at the moment") {
    super(message);
    this.name = "NotConnectedError";
  }
}
