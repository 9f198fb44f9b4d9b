// What a client needs of a storage. Any object with these two methods will do.

/**
 * Keys are strings, values are whatever JSON can hold.
 *
 * @typedef {object} Storage
 * @property {(prefix: string) => Promise<Array<[key: string, value: any]>>} load
 *   Every record whose key begins with `prefix`, in the order of the keys.
 * @property {(changes: Array<[key: string, value: any]>) => Promise<void>} write
 *   All of these or none; `undefined` as a value removes the record. Resolves when they outlast a crash.
 * @property {() => Promise<void> | void} [close]
 */

export {};
