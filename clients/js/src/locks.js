// Who holds which name: Web Locks where there are several tabs, a set of names where there is one process.

/** How long to wait for others who choose a device at this moment. */
const EXCLUSIVE_WAIT_MS = 5000;

/**
 * @typedef {object} Locks
 * @property {(name: string) => Promise<(() => void) | undefined>} take
 *   Returns what lets go of it, or nothing when somebody holds it.
 * @property {<T>(name: string, work: () => Promise<T>) => Promise<T>} exclusively
 *   One at a time.
 */

/**
 * @param {LockManager} manager
 * @returns {Locks}
 */
export function webLocks(manager) {
  return {
    take: (name) =>
      new Promise((resolve, reject) => {
        const held = manager.request(name, { ifAvailable: true }, (lock) => {
          if (lock === null) return resolve(undefined);
          // The lock lives as long as this promise, and no longer than the page.
          return new Promise((release) => resolve(() => release(undefined)));
        });
        held.catch(reject);
      }),
    exclusively: async (name, work) => {
      const waiting = new AbortController();
      const timer = setTimeout(() => waiting.abort(), EXCLUSIVE_WAIT_MS);
      let began = false;
      try {
        return await manager.request(name, { signal: waiting.signal }, () => {
          clearTimeout(timer);
          began = true;
          return work();
        });
      } catch (error) {
        // A tab that the browser froze may hold it for hours; the locks of the names are still there.
        if (began) throw error;
        return work();
      }
    },
  };
}

/** @type {WeakMap<object, Locks>} */
const ofStorages = new WeakMap();

/**
 * The locks of one process.
 *
 * @param {object} storage whose names they are about
 * @returns {Locks}
 */
export function processLocks(storage) {
  const known = ofStorages.get(storage);
  if (known !== undefined) return known;
  /** @type {Set<string>} */
  const held = new Set();
  /** @type {Promise<unknown>} */
  let last = Promise.resolve();
  /** @type {Locks} */
  const locks = {
    take: async (name) => {
      if (held.has(name)) return undefined;
      held.add(name);
      return () => held.delete(name);
    },
    exclusively: (_name, work) => {
      const turn = last.then(work);
      last = turn.catch(() => {});
      return turn;
    },
  };
  ofStorages.set(storage, locks);
  return locks;
}
