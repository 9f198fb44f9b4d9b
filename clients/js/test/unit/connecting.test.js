// Coming back at the right moment, and staying away when told so.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../../src/backoff.js";
import { advice } from "../../src/closecodes.js";
import { Bench, outcome, turn } from "../support/fake.js";

test("hello comes first, with the device, on every connection", async () => {
  const bench = new Bench({ window: 7, status: "away" });
  await bench.start();
  const hello = { type: "hello", user: "me", device: "laptop", status: "away", window: 7 };
  assert.deepEqual(bench.socket.take(), [hello]);
  assert.deepEqual(bench.socket.protocols, ["doorstep.v1"]);
  await bench.reconnect();
  assert.deepEqual(bench.socket.take(), [hello]);
});

test("waits are drawn from zero up to a bound that doubles", () => {
  for (const share of [0, 0.5, 0.999]) {
    const backoff = new Backoff(100, 1500, () => share);
    const waits = Array.from({ length: 7 }, () => backoff.next());
    assert.deepEqual(waits, [100, 200, 400, 800, 1500, 1500, 1500].map((bound) => bound * share));
    backoff.reset();
    assert.equal(backoff.next(), 100 * share);
  }
  assert.equal(new Backoff(1, 2, () => 1).next(750), 750, "nothing is added to what the router says");
  assert.equal(new Backoff(1, 2, () => 1).next(1e12), 3_600_000, "but not for ever");
});

test("a session of ten seconds sets the back-off back, a shorter one does not", async () => {
  const bench = new Bench({ backoffMinMs: 100 });
  bench.random = 1;
  await bench.start();
  const waits = () => bench.told("disconnected").map(({ retryInMs }) => retryInMs);
  bench.socket.end();
  await bench.clock.advance(100);
  await bench.welcome();
  await bench.clock.advance(9_999);
  bench.socket.end();
  assert.deepEqual(waits(), [100, 200]);
  await bench.clock.advance(200);
  await bench.welcome();
  await bench.clock.advance(10_000);
  bench.socket.end();
  assert.deepEqual(waits(), [100, 200, 100]);
});

test("codes that say stay away end the client, and the others do not", async () => {
  for (const code of [1002, 1003, 1007, 1009, 4400, 4403, 4409, 4410]) {
    const bench = new Bench();
    await bench.start();
    bench.socket.end(code, "because");
    await bench.clock.advance(600_000);
    assert.deepEqual(bench.told("closed"), [{ reason: "refused", code, message: "because" }]);
    assert.equal(bench.sockets.length, 1);
    assert.equal(bench.client.state, "closed");
    assert.equal(bench.clock.waiting, 0, "no timer is left");
  }
  for (const code of [1001, 1006, 1011, 1012, 4408, 4429, 4999]) assert.equal(advice(code), "retry");
});

test("a 1000 that nobody asked for is the end", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.end(1000);
  await bench.clock.advance(600_000);
  assert.equal(bench.told("closed")[0].reason, "done");
  assert.equal(bench.sockets.length, 1);
});

test("a goodbye says when to come back, and nothing shortens that", async () => {
  const window = new EventTarget();
  const bench = new Bench({ page: { window } });
  await bench.start();
  bench.socket.say({ type: "goodbye", code: 1012, reason: "restarting", retry_after_ms: 1840 });
  bench.socket.end(1006);
  assert.deepEqual(bench.told("disconnected"), [{ code: 1012, reason: "restarting", retryInMs: 1840 }]);
  window.dispatchEvent(new Event("online"));
  await bench.clock.advance(1839);
  assert.equal(bench.sockets.length, 1);
  await bench.clock.advance(1);
  assert.equal(bench.sockets.length, 2);
});

test("when the browser is online again, or looked at, a back-off is not waited out", async () => {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  const bench = new Bench({ page: { window, document }, backoffMinMs: 20_000 });
  await bench.start();
  bench.socket.end();
  window.dispatchEvent(new Event("online"));
  assert.equal(bench.sockets.length, 2);
  bench.socket.end();
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(bench.sockets.length, 2, "hidden");
  document.visibilityState = "visible";
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(bench.sockets.length, 3);
  await bench.welcome();
  await closed(bench);
  window.dispatchEvent(new Event("online"));
  assert.equal(bench.sockets.length, 3, "nor after the end");
});

test("a session that the network may have left behind is asked for a sign of life", async () => {
  const window = new EventTarget();
  const bench = new Bench({ page: { window }, connectTimeoutMs: 4000 });
  await bench.start();
  bench.socket.take();
  window.dispatchEvent(new Event("online"));
  assert.deepEqual(bench.socket.take(), [{ type: "ping" }]);
  bench.socket.say({ type: "pong" });
  await bench.clock.advance(5000);
  assert.equal(bench.told("disconnected").length, 0);
  window.dispatchEvent(new Event("online"));
  await bench.clock.advance(4000);
  assert.equal(bench.told("disconnected")[0].reason, "the router fell silent");
});

test("silence for twice the heartbeat is the end, with a ping in the middle", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.take();
  await bench.clock.advance(29_999);
  assert.deepEqual(bench.socket.take(), []);
  await bench.clock.advance(1);
  assert.deepEqual(bench.socket.take(), [{ type: "ping" }]);
  bench.socket.say({ type: "unheard_of" });
  await bench.clock.advance(30_000);
  assert.deepEqual(bench.socket.take(), [{ type: "ping" }], "any frame is a sign of life");
  await bench.clock.advance(29_999);
  assert.equal(bench.told("disconnected").length, 0);
  await bench.clock.advance(1);
  assert.equal(bench.told("disconnected").length, 1);
});

test("pings that can be seen are signs of life, and no others are asked for", async () => {
  const bench = new Bench();
  let ping;
  bench.options.WebSocket.prototype.on = (name, listener) => {
    if (name === "ping") ping = listener;
  };
  await bench.start();
  bench.socket.take();
  for (let round = 0; round < 5; round += 1) {
    await bench.clock.advance(50_000);
    ping();
  }
  assert.deepEqual(bench.socket.take(), []);
  await bench.clock.advance(60_000);
  assert.equal(bench.told("disconnected")[0].reason, "the router fell silent");
});

test("a machine that slept asks before it gives a session up", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.take();
  await bench.clock.sleep(3_600_000);
  assert.deepEqual(bench.socket.take(), [{ type: "ping" }]);
  await bench.clock.sleep(3_600_000);
  assert.deepEqual(bench.socket.take(), [{ type: "ping" }], "the answer was slept through too");
  bench.socket.say({ type: "pong" });
  await bench.clock.advance(29_000);
  assert.equal(bench.told("disconnected").length, 0);
});

test("connecting has an end, the token included", async () => {
  const bench = new Bench({ user: undefined, token: () => new Promise(() => {}), connectTimeoutMs: 3000 });
  await bench.client.start();
  await bench.clock.advance(3000);
  assert.equal(bench.told("disconnected")[0].reason, "connecting took too long");
  const other = new Bench({ connectTimeoutMs: 3000 });
  await other.client.start();
  await turn();
  other.socket.open();
  await other.clock.advance(3000);
  assert.equal(other.told("disconnected").length, 1, "no welcome");
});

test("another user than before is the end", async () => {
  const bench = new Bench();
  await bench.start();
  await bench.reconnect(1006, { user: "you" });
  assert.equal(bench.told("closed")[0].reason, "impossible");
  assert.equal(bench.socket.closedWith, 1000);
  assert.equal(bench.told("disconnected").length, 1, "only of the first connection");
});

test("nothing of an old connection is heard", async () => {
  const bench = new Bench();
  const old = await bench.start();
  await bench.reconnect();
  old.say({ type: "message", seq: 1, id: "a", from: "alice", body: 1 });
  old.end(4409);
  await turn();
  assert.deepEqual(bench.messages, []);
  assert.equal(bench.client.state, "online");
});

test("a WebSocket that cannot be made is the end", async () => {
  const bench = new Bench({
    WebSocket: class {
      constructor() {
        throw new Error("a page with TLS may not");
      }
    },
  });
  await bench.client.start();
  await turn();
  assert.equal(bench.told("closed")[0].reason, "impossible");
});

test("close says 1000, tells once, and leaves no timer", async () => {
  const bench = new Bench();
  await bench.start();
  const [first, second] = [outcome(bench.client.close()), outcome(bench.client.close())];
  await bench.clock.advance(0);
  assert.equal(bench.socket.closedWith, 1000);
  assert.equal(first.isSettled, false, "the router has not answered");
  bench.socket.end(1000);
  await turn();
  assert.ok(first.isSettled && second.isSettled);
  assert.equal(bench.told("closed").length, 1);
  assert.equal(bench.clock.waiting, 0);
  await assert.rejects(bench.client.send("bob", 1), { name: "ClosedError" });
});

test("close ends a client whose router is silent, that waits, that connects, that was never started", async () => {
  const silent = new Bench();
  await silent.start();
  const end = outcome(silent.client.close());
  await silent.clock.advance(2000);
  assert.ok(end.isSettled);
  const waiting = new Bench();
  await waiting.start();
  waiting.socket.end();
  await closed(waiting);
  const connecting = new Bench();
  await connecting.client.start();
  await closed(connecting);
  const fresh = new Bench();
  await closed(fresh);
  for (const bench of [silent, waiting, connecting, fresh]) {
    assert.equal(bench.clock.waiting, 0);
    await bench.clock.advance(600_000);
    assert.ok(bench.sockets.length <= 1);
    assert.equal(bench.client.state, "closed");
  }
});

test("close while the storage opens ends it too", async () => {
  const bench = new Bench({ storage: { load: async () => [], write: async () => {} } });
  const start = outcome(bench.client.start());
  await closed(bench);
  assert.ok(start.isSettled);
  assert.equal(bench.sockets.length, 0);
});

test("a listener may close the client in whatever event", async () => {
  for (const name of ["connected", "disconnected", "state", "caughtUp"]) {
    const bench = new Bench();
    bench.client.on(name, () => void bench.client.close());
    await bench.client.start();
    await turn();
    if (bench.socket?.closedWith === undefined && bench.sockets.length > 0) await bench.welcome();
    bench.socket?.say({ type: "caught_up", seq: 0 });
    bench.socket?.end(1006);
    await bench.clock.advance(60_000);
    assert.equal(bench.client.state, "closed", name);
    assert.ok(bench.sockets.length <= 1, name);
    assert.equal(bench.clock.waiting, 0, name);
  }
});

test("a listener that throws, at once or later, breaks nothing", async () => {
  const bench = new Bench();
  bench.client.on("connected", () => {
    throw new Error("at once");
  });
  bench.client.on("connected", async () => {
    throw new Error("later");
  });
  await bench.start();
  assert.deepEqual(bench.errors.map(({ message }) => message), ["at once", "later"]);
  assert.equal(bench.client.state, "online");
  assert.equal(bench.told("connected").length, 1);
});

test("forget waits for a connection, says so again after a loss, and ends", async () => {
  const bench = new Bench();
  await bench.client.start();
  const end = outcome(bench.client.forget());
  await bench.welcome();
  assert.equal(bench.socket.take("forget").length, 1);
  await bench.reconnect();
  assert.equal(bench.socket.take("forget").length, 1);
  assert.equal(end.isSettled, false);
  bench.socket.say({ type: "goodbye", code: 1000, reason: "the device was forgotten" });
  bench.socket.end(1000);
  await turn();
  assert.equal(end.error, undefined);
  assert.ok(end.isSettled);
  assert.equal(bench.told("closed")[0].reason, "done");
});

test("forget fails when the client ends for another reason", async () => {
  const bench = new Bench();
  await bench.start();
  const end = outcome(bench.client.forget());
  bench.socket.end(4409);
  await turn();
  assert.equal(end.error.name, "ClosedError");
});

test("a router that does not read is left", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.bufferedAmount = 17 << 20;
  await bench.client.setStatus("busy");
  assert.equal(bench.told("disconnected")[0].reason, "the router does not read");
});

async function closed(bench) {
  const end = outcome(bench.client.close());
  await bench.clock.advance(0);
  bench.socket?.end(1000);
  await turn();
  assert.ok(end.isSettled);
}
