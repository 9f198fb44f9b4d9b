// A token is asked for when it is needed, renewed in time, and never insisted on.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Bench, turn } from "../support/fake.js";

/** A client that goes through these tokens; a function among them is called. */
function withTokens(...tokens) {
  const asked = [];
  const token = async (about) => {
    asked.push(about.refused);
    const next = tokens.length > 1 ? tokens.shift() : tokens[0];
    return typeof next === "function" ? next() : next;
  };
  return Object.assign(new Bench({ user: undefined, token }), { asked });
}

const fails = () => {
  throw new Error("the provider is down");
};

test("a token is asked for before each connection", async () => {
  const bench = withTokens("one", "two");
  await bench.start();
  assert.deepEqual([bench.socket.sent[0].token, bench.socket.sent[0].user], ["one", undefined]);
  await bench.reconnect();
  assert.equal(bench.socket.sent[0].token, "two");
  assert.deepEqual(bench.asked, [false, false]);
});

test("after a refusal there is another token, or the end", async () => {
  const bench = withTokens("old", "new", "new");
  await bench.client.start();
  await turn();
  bench.socket.open();
  bench.socket.end(4401);
  await bench.clock.advance(1000);
  assert.equal(bench.sockets.length, 2);
  await bench.welcome();
  assert.equal(bench.socket.sent[0].token, "new");
  bench.socket.end(4401);
  await bench.clock.advance(60_000);
  assert.deepEqual(bench.asked, [false, true, true]);
  assert.equal(bench.told("closed")[0].reason, "not_authenticated");
  assert.equal(bench.sockets.length, 2, "the same token is not tried again");
  assert.equal(bench.clock.waiting, 0);
});

test("without a provider, or with nothing from it, a refusal is the end", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.end(4401);
  await turn();
  assert.equal(bench.told("closed")[0].reason, "not_authenticated");
  for (const nothing of [undefined, null, ""]) {
    const other = withTokens(nothing);
    await other.client.start();
    await turn();
    assert.equal(other.told("closed")[0].reason, "not_authenticated");
    assert.equal(other.sockets.length, 0);
  }
});

test("a provider that fails is asked again after a back-off", async () => {
  const bench = withTokens(fails, fails, "late");
  await bench.client.start();
  await bench.clock.advance(10_000);
  assert.equal(bench.told("disconnected").length, 2);
  await bench.welcome();
  assert.equal(bench.client.state, "online");
  assert.equal(bench.errors.length, 2);
});

test("a token that comes too late is of no connection", async () => {
  let give;
  const bench = withTokens(() => new Promise((resolve) => {
    give = resolve;
  }), "second");
  bench.options.connectTimeoutMs = 100;
  const client = bench.another();
  await client.start();
  await turn();
  const late = give;
  await bench.clock.advance(11_000);
  const sockets = bench.sockets.length;
  late("first");
  await turn();
  assert.equal(bench.sockets.length, sockets);
});

test("a token is renewed a minute before its end, or at half of what is left", async () => {
  for (const [lifeMs, atMs] of [[600_000, 540_000], [60_000, 30_000], [1000, 1000]]) {
    const bench = withTokens("one", "two");
    await bench.start({ expires_ms: bench.clock.wallMs() + lifeMs, limits: { heartbeat_ms: 10_000_000 } });
    bench.socket.take();
    await bench.clock.advance(atMs - 1);
    assert.deepEqual(bench.socket.take(), []);
    await bench.clock.advance(1);
    assert.deepEqual(bench.socket.take(), [{ type: "token", token: "two" }]);
  }
});

test("a renewal that fails is tried again, and the session goes on", async () => {
  const bench = withTokens("one", fails, "one", "two", "three");
  await bench.start({ expires_ms: bench.clock.wallMs() + 2000, limits: { heartbeat_ms: 10_000_000 } });
  bench.socket.take();
  await bench.clock.advance(1000 + 1500 + 2000);
  assert.deepEqual(bench.socket.take(), [{ type: "token", token: "two" }], "one that is no newer is not shown");
  bench.socket.say({ type: "error", code: "rate_limited", reason: "too soon", ref: "token" });
  await bench.clock.advance(60_000);
  assert.deepEqual(bench.socket.take(), [{ type: "token", token: "three" }]);
  bench.socket.say({ type: "token_ok", expires_ms: bench.clock.wallMs() + 600_000 });
  await bench.clock.advance(539_999);
  assert.deepEqual(bench.socket.take(), []);
  assert.equal(bench.client.state, "online");
});

test("no renewal outlives its session", async () => {
  const bench = withTokens("one", "two", "three");
  await bench.start({ expires_ms: bench.clock.wallMs() + 10_000 });
  bench.socket.end();
  await bench.clock.advance(200);
  await bench.welcome();
  bench.socket.take();
  await bench.clock.advance(20_000);
  assert.deepEqual(bench.socket.take("token"), []);
});

test("a renewal that was asked for in an earlier session is not shown in the next", async () => {
  let give;
  const slow = () => new Promise((resolve) => {
    give = resolve;
  });
  const bench = withTokens("one", slow, "two");
  await bench.start({ expires_ms: bench.clock.wallMs() + 2000 });
  await bench.clock.advance(1000);
  await bench.reconnect();
  bench.socket.take();
  give("late");
  await turn();
  assert.deepEqual(bench.socket.take("token"), []);
});
