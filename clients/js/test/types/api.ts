// The public API as TypeScript sees it. Nothing here runs: it has to compile, and what is marked must not.

import { Client, ClosedError, IndexedDbStorage, MemoryStorage, NotConnectedError, SendError } from "doorstep-client";
import type { Accepted, Events, Message, Options, PresenceEntry, Storage } from "doorstep-client";
import { type TokenProvider, type Welcome, newId } from "doorstep-client";
import { FileStorage } from "doorstep-client/file";
import { createRequire } from "node:module";

const provider: TokenProvider = async ({ refused }) => (refused ? null : "token");
const own: Storage = {
  load: async (prefix: string) => [[`${prefix}a`, 1]],
  write: async (changes) => {
    for (const [key, value] of changes) key.concat(String(value));
  },
};

const options: Options = {
  url: new URL("ws://127.0.0.1:7400/v1/connect"),
  user: "alice",
  device: "laptop",
  storage: new FileStorage("state.json"),
  WebSocket: createRequire(import.meta.url)("ws"),
  window: 32,
  status: "away",
  sendTimeoutMs: Infinity,
  connectTimeoutMs: 1,
  backoffMinMs: 1,
  backoffMaxMs: 1,
  handlerAttempts: 3,
  outboxMessagesMax: 10,
  outboxBytesMax: 10,
  onMessage: async (message: Message) => {
    const seq: number = message.seq;
    const from: string = message.from;
    return [seq, from, message.body.anything];
  },
  onPoison: (message, error: unknown) => [message.bodyText?.length, error],
  onError: (error: unknown) => error,
};

const client = new Client(options);
new Client({ url: "ws://127.0.0.1/", token: provider, storage: null });
new Client({ url: "ws://127.0.0.1/", user: "a", storage: own });
new Client({ url: "ws://127.0.0.1/", user: "a", storage: new MemoryStorage() });
new Client({ url: "ws://127.0.0.1/", user: "a", storage: new IndexedDbStorage("name") });

const off: () => void = client.on("state", ({ state, retryInMs }) => {
  const known: "connecting" | "online" | "waiting" | "closed" = state;
  return [known, retryInMs?.toFixed()];
});
off();
client.on("connected", (welcome: Welcome) => welcome.limits.frameBytes.toFixed());
client.on("disconnected", ({ code, reason, retryInMs }) => [code?.toFixed(), reason.length, retryInMs.toFixed()]);
client.on("caughtUp", ({ seq }) => seq.toFixed());
client.on("presence", (users: PresenceEntry[]) => {
  for (const { user, state, text, lastSeenMs, version } of users) void [user, state, text, lastSeenMs, version];
});
client.on("ephemeral", ({ from, body, tsMs }) => [from.length, body, tsMs.toFixed()]);
client.on("putOff", ({ id, to, code, reason }) => [id, to, code, reason]);
client.on("refused", ({ code, reason, ref }) => [code, reason, ref?.length]);
client.on("gap", () => {});
client.on("closed", ({ reason, code, message }) => {
  const known: "done" | "refused" | "not_authenticated" | "impossible" = reason;
  return [known, code?.toFixed(), message.length];
});
client.on("settled", (settled) => {
  if (settled.error === undefined) return settled.seq.toFixed();
  return settled.error.maybeTaken && settled.error.code === "queue_full";
});
const listener = (payload: Events["caughtUp"]) => payload.seq;
client.off("caughtUp", listener);

export async function use(): Promise<void> {
  await client.start();
  const sendOptions = { id: newId(), ttlMs: 1, timeoutMs: 1, retry: true };
  const accepted: Accepted = await client.send("bob", { text: "hi" }, sendOptions);
  const sent: boolean = await client.ephemeral("bob", { typing: true });
  await client.watch(["bob"]);
  await client.watch(new Set(["bob"]));
  await client.unwatch(["bob"]);
  await client.setStatus("busy", "lunch");
  const elapsedMs: number = await client.ping();
  const waiting: { id: string; to: string; body: any; createdMs: number }[] = client.outbox();
  const bob: PresenceEntry | undefined = client.presence("bob");
  const id: string = client.newId();
  const names: (string | undefined)[] = [client.user, client.device, client.state];
  try {
    await client.forget();
  } catch (error) {
    if (error instanceof SendError) error.id.concat(error.to, error.code, String(error.kept));
    if (error instanceof ClosedError || error instanceof NotConnectedError) error.message.concat();
  }
  await client.close();
  client.abandon();
  void [accepted.stored, sent, elapsedMs, waiting, bob, id, names];
}

export function misuse(error: SendError): void {
  // @ts-expect-error a client needs a url
  new Client({ user: "alice" });
  // @ts-expect-error there is no such option
  new Client({ url: "ws://127.0.0.1/", user: "alice", timeout: 1 });
  // @ts-expect-error a storage needs both methods
  new Client({ url: "ws://127.0.0.1/", user: "alice", storage: { load: async () => [] } });
  // @ts-expect-error nobody who is connected is offline
  new Client({ url: "ws://127.0.0.1/", user: "alice", status: "offline" });
  // @ts-expect-error there is no such event
  client.on("message", () => {});
  // @ts-expect-error a caughtUp has no id
  client.on("caughtUp", ({ id }) => id);
  // @ts-expect-error it may be an error
  client.on("settled", ({ seq }) => seq.toFixed());
  // @ts-expect-error a send needs a body
  void client.send("bob");
  // @ts-expect-error a recipient is a name
  void client.send(["bob"], 1);
  // @ts-expect-error there is no such option
  void client.send("bob", 1, { ttl: 1 });
  // @ts-expect-error users are a list
  void client.watch(7);
  // @ts-expect-error there is no such status
  void client.setStatus("gone");
  // @ts-expect-error nobody sets it from outside
  client.state = "online";
  // @ts-expect-error nobody sets it from outside
  error.maybeTaken = false;
  // @ts-expect-error there is no such code
  void (error.code === "no_such_code");
}
