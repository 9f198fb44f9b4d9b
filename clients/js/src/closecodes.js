// What the end of a connection means.
//
// It must never advise to come back after a code that says stay away: two clients of one device would throw each
// other out for ever.

/** @typedef {"done" | "stop" | "retry" | "new_token"} Advice */

/** These say that coming back would end the same way. */
const STOP = new Set([1002, 1003, 1007, 1009, 4400, 4403, 4409, 4410]);

/**
 * @param {number | undefined} code undefined for a connection that broke without one
 * @returns {Advice}
 */
export function advice(code) {
  if (code === 1000) return "done";
  if (code === 4401) return "new_token";
  // Codes that this version does not know are taken for passing trouble: the back-off keeps a wrong guess cheap,
  // while giving up would need a person.
  return code !== undefined && STOP.has(code) ? "stop" : "retry";
}

/**
 * The code that the other side said. 1005, 1006 and 1015 are what a WebSocket library makes up where there was none.
 *
 * @param {number | undefined} code
 */
export function saidCode(code) {
  return code === 1005 || code === 1006 || code === 1015 || code === 0 ? undefined : code;
}

/**
 * What an HTTP answer that refused the upgrade amounts to in close codes.
 *
 * @param {number} status
 */
export function closeCodeOfStatus(status) {
  switch (status) {
    case 401:
      return 4401;
    case 403:
      return 4403;
    case 408:
      return 4408;
    case 429:
      return 4429;
    case 503:
      return 1012;
    default:
      return status >= 500 ? 1011 : 4400;
  }
}
