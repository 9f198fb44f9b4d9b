// The client against the real router, which is killed in the hardest way in mid-traffic.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { WebSocket } from "ws";

import { Client, MemoryStorage } from "../../src/index.js";
import { FileStorage } from "../../src/storage/file.js";
import { Router, skip } from "../support/router.js";
import { next, until } from "../support/wait.js";

const QUICK = { backoffMinMs: 10, backoffMaxMs: 200 };

const isUnanswered = ([key]) => key.includes("/outbox/");

describe("with a router", { skip }, () => {
  const ends = [];
  after(async () => {
    for (const end of ends.reverse()) await end();
  });

  async function start(settings) {
    const router = await Router.start(settings);
    ends.push(() => router.stop());
    return router;
  }

  /** A client that is closed at the end at the latest; `bodies` is what came, in order. */
  async function enter(router, user, options = {}) {
    const bodies = [];
    const client = new Client({
      url: router.url,
      user,
      device: "laptop",
      storage: null,
      WebSocket,
      onMessage: ({ body }) => void bodies.push(body),
      ...QUICK,
      ...options,
    });
    ends.push(() => client.close());
    await client.start();
    return Object.assign(client, { bodies });
  }

  test("a message to a user who is away waits for him", async () => {
    const router = await start();
    const alice = await enter(router, "alice");
    const body = { text: "are you there?", "ü": [1, null, "\u2028"] };
    const { stored, seq } = await alice.send("bob", body);
    assert.equal(stored, true);
    await alice.close();
    const bob = await enter(router, "bob");
    assert.deepEqual(await next(bob, "caughtUp"), { seq });
    assert.deepEqual(bob.bodies, [body]);
  });

  test("a thousand messages each way, once and in order", async () => {
    const router = await start();
    const [alice, bob] = [await enter(router, "alice"), await enter(router, "bob")];
    const numbers = Array.from({ length: 1000 }, (_, n) => n);
    const sends = numbers.flatMap((n) => [alice.send("bob", n), bob.send("alice", n)]);
    await Promise.all(sends);
    await until(() => alice.bodies.length >= 1000 && bob.bodies.length >= 1000, "all of them");
    assert.deepEqual([alice.bodies, bob.bodies], [numbers, numbers]);
  });

  test("the router is killed in mid-traffic, again and again: every message once and in order", async () => {
    const router = await start();
    const alice = await enter(router, "alice", { storage: new MemoryStorage() });
    const bob = await enter(router, "bob", { storage: new MemoryStorage() });
    const sends = [];
    for (let round = 0; round < 5; round += 1) {
      for (let n = 0; n < 150; n += 1) sends.push(alice.send("bob", sends.length));
      const come = bob.bodies.length;
      // In the middle: some are answered, some are on their way, some are not sent.
      await until(() => bob.bodies.length >= come + 20);
      await router.kill();
      await router.restart();
    }
    const accepted = await Promise.all(sends);
    await until(() => bob.bodies.length >= sends.length);
    assert.deepEqual(bob.bodies, sends.map((_, n) => n));
    assert.equal(new Set(accepted.map(({ id }) => id)).size, sends.length);
    assert.deepEqual(alice.outbox(), []);
  });

  test("a sender that is reloaded while the router is away sends what waits, once and in order", async () => {
    const router = await start();
    const directory = await mkdtemp(join(tmpdir(), "doorstep-client-"));
    ends.push(() => rm(directory, { recursive: true, force: true }));
    const path = join(directory, "state.json");
    const bob = await enter(router, "bob");
    let alice = await enter(router, "alice", { device: undefined, storage: new FileStorage(path) });
    for (let n = 0; n < 100; n += 1) alice.send("bob", n).catch(() => {});
    await until(() => bob.bodies.length >= 10);
    await router.kill();
    for (let n = 100; n < 200; n += 1) alice.send("bob", n).catch(() => {});
    const waiting = alice.outbox();
    assert.ok(waiting.length >= 100);
    // What a crash leaves is what is in the file.
    // Not by their number: what was answered just now may be there still, and the last not yet.
    const isLast = (entry) => isUnanswered(entry) && JSON.stringify(entry).includes(waiting.at(-1).id);
    await until(async () => (await new FileStorage(path).load("")).some(isLast));
    const { device } = alice;
    alice.abandon();
    alice = await enter(router, "alice", { device: undefined, storage: new FileStorage(path) });
    assert.equal(alice.device, device);
    assert.equal(alice.outbox().at(-1).body, 199);
    const settled = [];
    alice.on("settled", (each) => settled.push(each));
    const count = alice.outbox().length;
    await router.restart();
    // What has its answer leaves the outbox at once, and is told when that is in the file.
    await until(() => settled.length >= count && bob.bodies.length >= 200);
    assert.deepEqual(alice.outbox(), []);
    assert.deepEqual(bob.bodies, Array.from({ length: 200 }, (_, n) => n));
    assert.equal(settled.length, count);
    assert.ok(settled.every(({ error }) => error === undefined));
  });

  test("a receiver that is reloaded does nothing again that it was done with", async () => {
    const router = await start();
    const storage = new MemoryStorage();
    const alice = await enter(router, "alice");
    const all = [];
    for (let n = 0; n < 300; n += 1) void alice.send("bob", n);
    let rounds = 0;
    while (new Set(all).size < 300) {
      const come = all.length;
      const bob = await enter(router, "bob", { storage, window: 32, onMessage: ({ body }) => void all.push(body) });
      await until(() => all.length >= Math.min(come + 20, 300), "some more, or the last");
      bob.abandon();
      rounds += 1;
    }
    assert.ok(rounds > 3, `${rounds} rounds`);
    const twice = all.filter((body, place) => all.indexOf(body) !== place);
    const once = all.filter((body, place) => all.indexOf(body) === place);
    assert.deepEqual(once, Array.from({ length: once.length }, (_, n) => n));
    assert.ok(twice.length <= rounds, `only what was being written down when a process ended: ${twice}`);
  });

  test("a newer session of the device ends the older one for good", async () => {
    const router = await start();
    const older = await enter(router, "bob");
    if (older.state !== "online") await next(older, "connected");
    const end = next(older, "closed");
    const newer = await enter(router, "bob");
    const closed = await end;
    assert.deepEqual([closed.reason, closed.code], ["refused", 4409]);
    const alice = await enter(router, "alice");
    await alice.send("bob", "to the newer");
    await until(() => newer.bodies.length === 1);
    assert.deepEqual(older.bodies, []);
    assert.equal(newer.state, "online");
  });

  test("an id that is sent again is delivered once, and answered the same", async () => {
    const router = await start();
    const [alice, bob] = [await enter(router, "alice"), await enter(router, "bob")];
    const id = alice.newId();
    const first = await alice.send("bob", 1, { id });
    const again = await alice.send("bob", 1, { id, retry: true });
    assert.equal(again.seq, first.seq);
    await assert.rejects(alice.send("bob", 2, { id, retry: true }), { code: "id_reused", maybeTaken: true });
    await alice.send("bob", 3);
    await until(() => bob.bodies.includes(3));
    assert.deepEqual(bob.bodies, [1, 3]);
  });

  test("presence is told, and again after the router came back", async () => {
    const router = await start("[presence]\nlinger = \"100ms\"\n");
    const alice = await enter(router, "alice");
    await alice.watch(["bob"]);
    const bob = await enter(router, "bob", { status: "busy" });
    await until(() => alice.presence("bob")?.state === "busy");
    await bob.setStatus("away", "lunch");
    await until(() => alice.presence("bob")?.text === "lunch");
    const { version } = alice.presence("bob");
    await router.kill();
    await router.restart();
    await until(() => alice.presence("bob").version > version && alice.presence("bob").text === "lunch");
    await bob.close();
    await until(() => alice.presence("bob").state === "offline");
  });

  test("what is too large for the router stays here, and the session goes on", async () => {
    const router = await start();
    const alice = await enter(router, "alice");
    await assert.rejects(alice.send("bob", "x".repeat(70_000)), { code: "too_large", maybeTaken: false });
    await alice.send("bob", "x".repeat(65_000));
    assert.ok((await alice.ping()) >= 0);
  });

  test("a device that is forgotten lacks nothing any more", async () => {
    const router = await start();
    const bob = await enter(router, "bob");
    await next(bob, "caughtUp");
    await bob.forget();
    const again = await enter(router, "bob");
    assert.equal((await next(again, "connected")).registered, true);
  });

  test("tokens are shown, renewed in time, and the end when there are none", async () => {
    const router = await start('[auth]\nmode = "jwt"\nkey_file = "key"\nleeway = "0s"\n');
    let asked = 0;
    const token = async () => {
      asked += 1;
      return router.token("carol", "4s");
    };
    const carol = await enter(router, "unused", { user: undefined, token });
    await until(() => carol.state === "online");
    assert.equal(carol.user, "carol");
    let losses = 0;
    carol.on("disconnected", () => {
      losses += 1;
    });
    await until(() => asked >= 4);
    assert.equal(losses, 0, "renewed before they ended");
    const stranger = await enter(router, "unused", { user: undefined, token: () => "none.of.yours" });
    assert.equal((await next(stranger, "closed")).reason, "not_authenticated");
  });

  test("a process that closes its client can exit", async () => {
    const router = await start();
    const example = fileURLToPath(new URL("../../examples/echo.js", import.meta.url));
    const child = spawn(process.execPath, [example, router.url, "echo"], { stdio: ["ignore", "pipe", "inherit"] });
    const exit = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
    const alice = await enter(router, "alice");
    await alice.send("echo", { text: "hello" });
    await until(() => alice.bodies.length === 1);
    assert.deepEqual(alice.bodies, [{ echo: { text: "hello" } }]);
    child.kill("SIGTERM");
    assert.deepEqual(await exit, { code: 0, signal: null });
  });
});
