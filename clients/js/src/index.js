// doorstep-client: a connection to a Doorstep router that outlives connections, and, with a storage, the page.

export { Client } from "./client.js";
export { ClosedError, NotConnectedError, SendError } from "./errors.js";
export { newId } from "./ids.js";
export { IndexedDbStorage } from "./storage/indexeddb.js";
export { MemoryStorage } from "./storage/memory.js";

/**
 * @typedef {import("./options.js").Options} Options
 * @typedef {import("./client.js").Events} Events
 * @typedef {import("./client.js").ClientState} ClientState
 * @typedef {import("./client.js").Closed} Closed
 * @typedef {import("./handlers.js").Message} Message
 * @typedef {import("./handlers.js").PoisonedMessage} PoisonedMessage
 * @typedef {import("./outbox.js").Accepted} Accepted
 * @typedef {import("./sender.js").SendOptions} SendOptions
 * @typedef {import("./sender.js").Settled} Settled
 * @typedef {import("./presence.js").PresenceEntry} PresenceEntry
 * @typedef {import("./presence.js").OwnState} OwnState
 * @typedef {import("./frames.js").Welcome} Welcome
 * @typedef {import("./frames.js").Limits} Limits
 * @typedef {import("./tokens.js").TokenProvider} TokenProvider
 * @typedef {import("./storage/storage.js").Storage} Storage
 * @typedef {import("./errors.js").RouterCode} RouterCode
 * @typedef {import("./errors.js").LocalCode} LocalCode
 */
