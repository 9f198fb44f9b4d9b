// Where what is stored: `<url>/<user>/slots/<device>` says that there is a device, and under
// `<url>/<user>/devices/<device>/` are `owner`, `cursor`, `done/<place in the ring>` and `outbox/<number>`.

/** @typedef {{ url: string, user: string | undefined }} Account */

/** @param {Account} account */
function accountKey({ url, user }) {
  return `${encodeURIComponent(url)}/${encodeURIComponent(user ?? "")}/`;
}

/**
 * @param {Account} account
 * @param {string} device
 */
export function slotKey(account, device) {
  return `${accountKey(account)}slots/${encodeURIComponent(device)}`;
}

/**
 * What comes before every key of a device.
 *
 * @param {Account} account
 * @param {string} device
 */
export function deviceKey(account, device) {
  return `${accountKey(account)}devices/${encodeURIComponent(device)}/`;
}

/** @param {string} place */
export function outboxKey(place) {
  return `outbox/${place}`;
}
