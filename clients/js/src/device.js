// Which device this client is.
//
// A name must never be in use twice at a time: the router would throw the older session out. Hence a pool of slots in
// the storage, each under a lock while a tab lives. A reload gets its slot back, a second tab takes another one, and
// what tabs that are closed for good left unsent is adopted.

import { newId } from "./ids.js";
import { deviceKey, outboxKey, slotKey } from "./keys.js";

/** @typedef {import("./storage/storage.js").Storage} Storage */
/** @typedef {import("./locks.js").Locks} Locks */
/** @typedef {import("./keys.js").Account} Account */

/** @typedef {{ name: string, release: () => void }} Device */

export class DevicePool {
  #storage;
  #locks;
  #account;
  #prefix;

  /**
   * @param {object} setting
   * @param {Storage} setting.storage
   * @param {Locks} setting.locks
   * @param {Account} setting.account
   * @param {string} setting.prefix of new names
   */
  constructor({ storage, locks, account, prefix }) {
    this.#storage = storage;
    this.#locks = locks;
    this.#account = account;
    this.#prefix = prefix;
  }

  /**
   * The oldest slot that is free, or a new one.
   *
   * @returns {Promise<Device>}
   */
  take() {
    return this.#alone(async () => {
      for (const name of await this.#names()) {
        const release = await this.#locks.take(this.#lock(name));
        if (release !== undefined) return { name, release };
      }
      return this.#add();
    });
  }

  /**
   * Moves what waits in the outboxes of free slots to `heir`, under the same ids.
   *
   * @param {string} heir who holds its own lock
   */
  adopt(heir) {
    return this.#alone(async () => {
      for (const name of await this.#names()) {
        const release = name === heir ? undefined : await this.#locks.take(this.#lock(name));
        if (release === undefined) continue;
        try {
          await this.#move(name, heir);
        } finally {
          release();
        }
      }
    });
  }

  /** @returns {Promise<Device>} */
  async #add() {
    const name = `${this.#prefix}-${newId()}`;
    const release = await this.#locks.take(this.#lock(name));
    await this.#storage.write([[slotKey(this.#account, name), { name }]]);
    return { name, release: release ?? (() => {}) };
  }

  /**
   * @param {string} from
   * @param {string} to
   */
  async #move(from, to) {
    const prefix = deviceKey(this.#account, from);
    const records = await this.#storage.load(prefix + outboxKey(""));
    if (records.length === 0) return;
    // The keys begin with the time, so that what is adopted takes its place among the rest.
    const removed = records.map(([key]) => /** @type {[string, any]} */ ([key, undefined]));
    const added = records.map(([key, value]) => {
      const rest = key.slice(prefix.length);
      return /** @type {[string, any]} */ ([`${deviceKey(this.#account, to)}${rest}`, value]);
    });
    await this.#storage.write([...removed, ...added]);
  }

  async #names() {
    const slots = await this.#storage.load(slotKey(this.#account, ""));
    return slots.map(([, slot]) => /** @type {string} */ (slot.name));
  }

  /** @param {string} name */
  #lock(name) {
    return `doorstep ${deviceKey(this.#account, name)}`;
  }

  /**
   * @template T
   * @param {() => Promise<T>} work
   */
  #alone(work) {
    return this.#locks.exclusively(`doorstep ${slotKey(this.#account, "")}`, work);
  }
}

/**
 * A name for one page, where there are no locks: kept by the browser for this tab over reloads. While the page is
 * there the name is not, because a tab that is duplicated copies what its original keeps.
 *
 * @param {Account} account
 * @param {globalThis.Storage} session the `sessionStorage`
 * @param {Pick<EventTarget, "addEventListener" | "removeEventListener">} page
 * @returns {Device}
 */
export function deviceOfPage(account, session, page) {
  const key = `doorstep ${slotKey(account, "")}`;
  const name = session.getItem(key) ?? `browser-${newId()}`;
  session.removeItem(key);
  const keep = () => session.setItem(key, name);
  // A page that comes back from the back-forward cache is the owner again.
  const take = () => session.removeItem(key);
  page.addEventListener("pagehide", keep);
  page.addEventListener("pageshow", take);
  const release = () => {
    page.removeEventListener("pagehide", keep);
    page.removeEventListener("pageshow", take);
    keep();
  };
  return { name, release };
}
