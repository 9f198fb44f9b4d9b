// Lets the conformance runner try this client: told by lines of JSON on the standard input, telling by lines on the
// standard output. What the lines mean is in proto-docs/clients.md.

import { createInterface } from "node:readline";

import { WebSocket } from "ws";

import { Client, MemoryStorage } from "../src/index.js";

/** What the runner calls the sends of this client, by id. */
let refs = new Map();
/** By name, so that a client finds what an earlier one left. */
const storages = new Map();
/** How often the handler is still to fail, by id. */
const failures = new Map();
/** Handlers that wait; undefined while none has to. */
let held;
let client;

function tell(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

function storageNamed(name) {
  if (name === undefined) return null;
  if (!storages.has(name)) storages.set(name, new MemoryStorage());
  return storages.get(name);
}

/** Goes through a list, the last one again and again. */
function providerOf(tokens) {
  let place = 0;
  return async () => {
    const token = tokens[Math.min(place, tokens.length - 1)];
    place += 1;
    return token;
  };
}

async function onMessage({ seq, id, from, body }) {
  // What was written to the standard input before the message was sent has to be known here, and the two are read in
  // whatever order: one turn of the event loop reads both.
  await turn();
  tell("message", { seq, id, from, body: isWritable(body) ? body : undefined });
  if (held !== undefined) await held.released;
  const left = failures.get(id) ?? 0;
  if (left === 0) return;
  failures.set(id, left - 1);
  throw new AskedFor(`the handler is to fail for ${id}`);
}

class AskedFor extends Error {}

function turn() {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}

/** Half a surrogate pair is JSON to this client, and not to everybody. */
function isWritable(body) {
  return !/(?<!\\)(?:\\\\)*\\ud[89a-f]/i.test(JSON.stringify(body));
}

function connect({ url, user, device, options = {} }) {
  refs = new Map();
  client = new Client({
    url,
    user: options.tokens === undefined ? user : undefined,
    token: options.tokens === undefined ? undefined : providerOf(options.tokens),
    device,
    storage: storageNamed(options.storage),
    WebSocket,
    window: options.window,
    status: options.status,
    backoffMinMs: options.backoff_min_ms,
    backoffMaxMs: options.backoff_max_ms,
    sendTimeoutMs: options.send_timeout_ms,
    connectTimeoutMs: options.connect_timeout_ms,
    handlerAttempts: options.handler_attempts,
    onMessage,
    onPoison: ({ id, from }) => tell("poison", { id, from }),
    onError: (error) => {
      if (!(error instanceof AskedFor)) console.error(error);
    },
  });
  tellEvents(client);
  client.start().catch((error) => console.error(error));
}

function tellEvents(client) {
  client.on("connected", ({ user, device, gap }) => tell("connected", { user, device, gap }));
  client.on("disconnected", ({ code }) => tell("disconnected", { close_code: code }));
  client.on("caughtUp", ({ seq }) => tell("caught_up", { seq }));
  client.on("presence", (users) => tell("presence", { users: users.map(presenceEntry) }));
  client.on("ephemeral", ({ from, body }) => tell("ephemeral", { from, body }));
  client.on("refused", ({ code }) => tell("refused", { code }));
  client.on("settled", tellSettled);
  client.on("closed", ({ reason, code }) => tell("closed", { reason, close_code: code }));
}

function presenceEntry({ user, state, text, lastSeenMs, version }) {
  return { user, state, text, last_seen_ms: lastSeenMs, version };
}

function tellSettled({ id, seq, stored, error }) {
  const ref = refs.get(id);
  refs.delete(id);
  if (error === undefined) tell("accepted", { ref, id, seq, stored });
  else tell("failed", { ref, code: error.code, maybe_taken: error.maybeTaken });
}

function send({ ref, to, body, id = client.newId(), ttl_ms }) {
  refs.set(id, ref);
  // What comes of it is told by the event `settled`, which tells of sends of earlier clients too.
  client.send(to, body, { id, ttlMs: ttl_ms }).catch(() => {});
}

function hold() {
  if (held !== undefined) return;
  held = {};
  held.released = new Promise((resolve) => {
    held.release = resolve;
  });
}

function release() {
  held?.release();
  held = undefined;
}

const orders = {
  connect,
  send,
  ephemeral: ({ to, body }) => client.ephemeral(to, body),
  watch: ({ users }) => client.watch(users),
  unwatch: ({ users }) => client.unwatch(users),
  status: ({ state, text }) => client.setStatus(state, text),
  fail: ({ id, times }) => failures.set(id, times),
  hold,
  release,
  close: () => client.close(),
  forget: () => client.forget(),
  abandon: () => client.abandon(),
};

tell("ready", { features: ["storage", "poison", "http_status"] });
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const order = JSON.parse(line);
  Promise.resolve(orders[order.do](order)).catch((error) => console.error(error));
});
lines.on("close", () => process.exit(0));
