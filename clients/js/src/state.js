// What a client keeps beyond its own life, opened: the storage, the name of the device under its lock, and what is
// stored of it.

import { DevicePool, deviceOfPage } from "./device.js";
import { newId } from "./ids.js";
import { Journal } from "./journal.js";
import { deviceKey, outboxKey, slotKey } from "./keys.js";
import { processLocks, webLocks } from "./locks.js";
import { IndexedDbStorage } from "./storage/indexeddb.js";

/** @typedef {ReturnType<typeof import("./options.js").checkOptions>} Setting */
/** @typedef {import("./storage/storage.js").Storage} Storage */

export class State {
  #setting;
  #storage;
  #ownsStorage;
  #device;
  /** @type {Array<[key: string, value: any]>} without what comes before the keys of a device */
  records = [];
  journal;

  /**
   * @param {Setting} setting
   * @param {Storage | null} storage
   * @param {import("./device.js").Device} device
   * @param {(error: unknown) => void} report
   */
  constructor(setting, storage, device, report) {
    this.#setting = setting;
    this.#storage = storage;
    this.#ownsStorage = setting.storage === undefined;
    this.#device = device;
    const { clock, random } = setting;
    this.journal = new Journal({ storage, prefix: deviceKey(setting, device.name), clock, random, report });
  }

  /** Whether it outlives the client. */
  get keeps() {
    return this.#storage !== null;
  }

  get device() {
    return this.#device.name;
  }

  /** Of whom the state is; nothing when nobody used it yet. @returns {string | undefined} */
  get owner() {
    return this.records.find(([key]) => key === "owner")?.[1].user;
  }

  /**
   * Notes whose it is.
   *
   * @param {string} user
   */
  own(user) {
    if (this.owner !== undefined) return;
    this.records.push(["owner", { user }]);
    // The journal reports what goes wrong.
    this.journal.must([["owner", { user }]]).catch(() => {});
  }

  /** @returns {Array<[key: string, value: any]>} in the order of the calls */
  get outbox() {
    return this.records.filter(([key]) => key.startsWith(outboxKey("")));
  }

  async load() {
    const prefix = deviceKey(this.#setting, this.device);
    const records = (await this.#storage?.load(prefix)) ?? [];
    this.records = records.map(([key, value]) => [key.slice(prefix.length), value]);
  }

  /** The end. Everything asked for so far is stored before, unless the storage fails. */
  async close() {
    await this.journal.close();
    await this.#letGo();
  }

  /** The end, and nothing is kept. */
  async remove() {
    await this.journal.close();
    const prefix = deviceKey(this.#setting, this.device);
    const keys = ((await this.#storage?.load(prefix)) ?? []).map(([key]) => key);
    keys.push(slotKey(this.#setting, this.device));
    await this.#storage?.write(keys.map((key) => [key, undefined]));
    await this.#letGo();
  }

  /** As if the process had ended. */
  abandon() {
    this.journal.abandon();
    void this.#letGo();
  }

  async #letGo() {
    this.#device.release();
    if (this.#ownsStorage) await this.#storage?.close?.();
  }
}

/**
 * @param {Setting} setting
 * @param {(error: unknown) => void} report
 * @returns {Promise<State>}
 */
export async function openState(setting, report) {
  const storage = await openStorage(setting, report);
  const { device, pool } = await takeDevice(setting, storage);
  const state = new State(setting, storage, device, report);
  try {
    await pool?.adopt(device.name);
    await state.load();
  } catch (error) {
    state.abandon();
    throw error;
  }
  return state;
}

/**
 * @param {Setting} setting
 * @param {(error: unknown) => void} report
 * @returns {Promise<Storage | null>}
 */
async function openStorage(setting, report) {
  if (setting.storage !== undefined) return setting.storage;
  if (globalThis.indexedDB === undefined) return null;
  const storage = new IndexedDbStorage();
  try {
    await storage.load(slotKey(setting, ""));
    return storage;
  } catch (error) {
    // Some browsers have none in a private window. Working without it is what the user chose there.
    report(error);
    return null;
  }
}

/**
 * @param {Setting} setting
 * @param {Storage | null} storage
 * @returns {Promise<{ device: import("./device.js").Device, pool?: DevicePool }>}
 */
async function takeDevice(setting, storage) {
  const { device, page } = setting;
  if (device !== undefined) return { device: { name: device, release: () => {} } };
  const prefix = page.window === undefined ? "device" : "browser";
  const locks = storage === null ? undefined : locksFor(setting, storage);
  if (storage !== null && locks !== undefined) {
    const pool = new DevicePool({ storage, locks, account: setting, prefix });
    return { device: await pool.take(), pool };
  }
  if (page.window !== undefined && page.sessionStorage !== undefined) {
    return { device: deviceOfPage(setting, page.sessionStorage, page.window) };
  }
  // For as long as this client lives. The next one is registered anew.
  return { device: { name: `${prefix}-${newId()}`, release: () => {} } };
}

/**
 * @param {Setting} setting
 * @param {Storage} storage
 */
function locksFor({ locks, page }, storage) {
  if (locks !== undefined) return locks ?? undefined;
  if (page.window === undefined) return processLocks(storage);
  const manager = globalThis.navigator?.locks;
  return manager === undefined ? undefined : webLocks(manager);
}
