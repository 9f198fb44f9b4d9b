// No message lost, repeated without its mark, or sent before an earlier one to the same recipient.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MemoryStorage } from "../../src/index.js";
import { Bench, deferred, outcome, turn } from "../support/fake.js";
import { answer, bodies, reject, sent } from "../support/sends.js";

test("ids are ULIDs, and sort as they were made", () => {
  const { client } = new Bench();
  const ids = Array.from({ length: 2000 }, () => client.newId());
  assert.ok(ids.every((id) => /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(id)));
  assert.equal(new Set(ids).size, ids.length);
  assert.deepEqual([...ids].sort(), ids);
});

test("a send resolves when it is accepted", async () => {
  const bench = new Bench();
  await bench.start();
  const { result, frame } = await sent(bench, "bob", { n: 1 }, { ttlMs: 5000 });
  const { id } = frame;
  assert.match(id, /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
  assert.deepEqual(frame, { type: "send", id, to: "bob", body: { n: 1 }, ttl_ms: 5000 });
  assert.deepEqual(bench.client.outbox().map(({ to, body }) => ({ to, body })), [{ to: "bob", body: { n: 1 } }]);
  answer(bench.socket, frame);
  await turn();
  assert.deepEqual(result.value, { id, seq: 7, stored: true });
  assert.deepEqual(bench.told("settled"), [{ id, to: "bob", seq: 7, stored: true }]);
  assert.deepEqual(bench.client.outbox(), []);
  answer(bench.socket, frame);
  assert.equal(bench.told("settled").length, 1, "once");
});

test("a lost connection makes a repeat of what was in flight, and of nothing else", async () => {
  const bench = new Bench();
  await bench.start({ limits: { sends_in_flight: 2 } });
  for (const body of [1, 2, 3]) void bench.client.send("bob", body);
  await turn();
  assert.deepEqual(bodies(bench.socket), [1, 2]);
  await bench.reconnect();
  const frames = bench.socket.take("send");
  assert.deepEqual(frames.map(({ body, retry }) => [body, retry]), [[1, true], [2, true], [3, undefined]]);
});

test("a repeat is the same to the byte", async () => {
  const bench = new Bench();
  await bench.start();
  const body = { deep: [1, 2.5, "ü\u2028"], at: new Date(0) };
  void bench.client.send("bob", body, { ttlMs: 9 });
  await turn();
  body.deep.push("changed since");
  const [, first] = bench.socket.texts;
  await bench.reconnect();
  assert.equal(bench.socket.texts[1], first.replace('"ttl_ms":9', '"ttl_ms":9,"retry":true'));
});

test("passing rejections are repeated under the same id, when the router says or with growing delays", async () => {
  const bench = new Bench();
  bench.random = 1;
  await bench.start();
  const { result, frame } = await sent(bench, "bob", 1);
  reject(bench.socket, frame, "rate_limited", { retry_after_ms: 300 });
  await bench.clock.advance(299);
  assert.deepEqual(bench.socket.take(), []);
  await bench.clock.advance(1);
  assert.deepEqual(bench.socket.take(), [frame], "not marked: it was certainly not taken");
  let wait = 200;
  for (const code of ["queue_full", "overloaded", "storage_unavailable", "storage_unavailable"]) {
    reject(bench.socket, frame, code);
    await bench.clock.advance(wait - 1);
    assert.deepEqual(bench.socket.take(), [], code);
    await bench.clock.advance(1);
    assert.deepEqual(bench.socket.take(), [frame], code);
    wait *= 2;
  }
  const codes = bench.told("putOff").map(({ code }) => code);
  assert.deepEqual(codes, ["rate_limited", "queue_full", "overloaded", "storage_unavailable"], "each once");
  answer(bench.socket, frame);
  await turn();
  assert.ok(result.value);
});

test("a timer that comes a little too soon loses no repeat", async () => {
  const bench = new Bench();
  await bench.start();
  bench.clock.earlyMs = 0.7;
  const { frame } = await sent(bench, "bob", 1);
  reject(bench.socket, frame, "queue_full", { retry_after_ms: 100 });
  await bench.clock.advance(99.5);
  assert.deepEqual(bench.socket.take(), [], "and makes none too early");
  await bench.clock.advance(1);
  assert.deepEqual(bench.socket.take(), [frame]);
});

test("unknown_outcome is repeated as such, and no later refusal undoes it", async () => {
  const bench = new Bench();
  await bench.start();
  const { result, frame } = await sent(bench, "bob", 1);
  reject(bench.socket, frame, "unknown_outcome", { retry_after_ms: 1 });
  await bench.clock.advance(1);
  assert.deepEqual(bench.socket.take(), [{ ...frame, retry: true }]);
  reject(bench.socket, frame, "forbidden");
  await turn();
  assert.equal(result.error.code, "forbidden");
  assert.equal(result.error.maybeTaken, true);
});

test("shutting_down waits for the next connection", async () => {
  const bench = new Bench({ backoffMinMs: 10 });
  await bench.start();
  const { frame } = await sent(bench, "bob", 1);
  reject(bench.socket, frame, "shutting_down");
  await bench.clock.advance(5000);
  assert.deepEqual(bench.socket.take("send"), []);
  await bench.reconnect();
  assert.deepEqual(bench.socket.take("send"), [frame]);
});

test("every other rejection fails the send, with its code", async () => {
  const bench = new Bench();
  await bench.start();
  for (const code of ["bad_request", "too_large", "forbidden", "id_reused", "expired", "unheard_of"]) {
    const { result, frame } = await sent(bench, "bob", 1);
    reject(bench.socket, frame, code);
    await turn();
    const { name, id, to, maybeTaken } = result.error;
    assert.deepEqual({ name, id, to, maybeTaken }, { name: "SendError", id: frame.id, to: "bob", maybeTaken: false });
    assert.equal(result.error.code, code);
    assert.equal(bench.told("settled").at(-1).error, result.error);
  }
});

test("none overtakes an earlier one to the same recipient, others may", async () => {
  const bench = new Bench();
  await bench.start();
  const { frame } = await sent(bench, "bob", 1);
  reject(bench.socket, frame, "queue_full", { retry_after_ms: 1000 });
  void bench.client.send("bob", 2);
  void bench.client.send("carol", 3);
  await turn();
  assert.deepEqual(bodies(bench.socket), [3]);
  await bench.clock.advance(1000);
  assert.deepEqual(bodies(bench.socket), [1, 2]);
});

test("a rejected one takes its place before those that were not sent yet", async () => {
  const bench = new Bench();
  await bench.start({ limits: { sends_in_flight: 2 } });
  for (const body of [1, 2, 3, 4]) void bench.client.send("bob", body);
  await turn();
  const [first, second] = bench.socket.take("send");
  reject(bench.socket, first, "overloaded", { retry_after_ms: 50 });
  answer(bench.socket, second);
  await turn();
  assert.deepEqual(bodies(bench.socket), [], "room there is, but 1 waits");
  await bench.clock.advance(50);
  assert.deepEqual(bodies(bench.socket), [1, 3]);
});

test("never more are unanswered than the router allows", async () => {
  const bench = new Bench();
  await bench.start({ limits: { sends_in_flight: 3 } });
  for (let body = 0; body < 100; body += 1) void bench.client.send(`user${body % 7}`, body);
  await turn();
  const order = [];
  for (let frames = bench.socket.take("send"); frames.length > 0; frames = bench.socket.take("send")) {
    assert.ok(frames.length <= 3);
    for (const frame of frames) {
      order.push(frame.body);
      answer(bench.socket, frame);
    }
    await turn();
  }
  assert.deepEqual(order, Array.from({ length: 100 }, (_, body) => body));
});

test("a full socket is not filled further", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.bufferedAmount = 5 << 20;
  void bench.client.send("bob", 1);
  assert.equal(await bench.client.ephemeral("bob", "typing"), false);
  await bench.clock.advance(1000);
  assert.deepEqual(bench.socket.take("send"), []);
  bench.socket.bufferedAmount = 0;
  await bench.clock.advance(20);
  assert.deepEqual(bodies(bench.socket), [1]);
});

test("what does not fit the router stays here and blocks nothing", async () => {
  const bench = new Bench();
  await bench.start({ limits: { body_bytes: 100, frame_bytes: 400 } });
  let deep = 0;
  for (let level = 0; level < 127; level += 1) deep = [deep];
  const large = outcome(bench.client.send("bob", "ü".repeat(50)));
  const fits = outcome(bench.client.send("bob", "ü".repeat(49)));
  await turn();
  assert.deepEqual([large.error.code, large.error.maybeTaken], ["too_large", false]);
  assert.equal(bench.socket.take("send").length, 1);
  assert.equal(fits.isSettled, false);
  await bench.reconnect(1006, { limits: { body_bytes: 1000, frame_bytes: 1200 } });
  const nested = outcome(bench.client.send("bob", deep));
  await turn();
  assert.equal(nested.error.code, "bad_request");
  assert.equal(bench.socket.take("send").length, 1, "the repeat alone");
  await bench.client.ephemeral("bob", "x".repeat(2000));
  assert.equal(bench.told("refused").at(-1).code, "too_large");
});

test("time that is over fails a send, and says whether it may have been taken", async () => {
  const bench = new Bench();
  await bench.client.start();
  const never = outcome(bench.client.send("bob", 1));
  await bench.clock.advance(29_000);
  assert.equal(never.isSettled, false);
  const own = outcome(bench.client.send("bob", 2, { timeoutMs: 2_000 }));
  await bench.clock.advance(1_000);
  assert.deepEqual([never.error.code, never.error.maybeTaken], ["timeout", false]);
  await bench.clock.advance(1_000);
  assert.equal(own.error.code, "timeout");
  const other = new Bench({ sendTimeoutMs: 100 });
  await other.start();
  const { result } = await sent(other, "bob", 1);
  await other.clock.advance(100);
  assert.deepEqual([result.error.code, result.error.maybeTaken], ["timeout", true]);
});

test("wrong arguments are told by their type", async () => {
  const bench = new Bench();
  await assert.rejects(bench.client.send("bob", 1), { name: "ClosedError" });
  await bench.start();
  const { client } = bench;
  await assert.rejects(client.send("", 1), RangeError);
  await assert.rejects(client.send("a/b", 1), RangeError);
  await assert.rejects(client.send("\ud800", 1), RangeError);
  await assert.rejects(client.send("x".repeat(129), 1), RangeError);
  await assert.rejects(client.send(7, 1), TypeError);
  await assert.rejects(client.send("bob", undefined), TypeError);
  await assert.rejects(client.send("bob", 1n), TypeError);
  await assert.rejects(client.send("bob", 1, { id: "a b" }), RangeError);
  await assert.rejects(client.send("bob", 1, { ttlMs: 0 }), RangeError);
  await assert.rejects(client.send("bob", 1, { timeoutMs: NaN }), RangeError);
  await assert.rejects(client.setStatus("offline"), RangeError);
  await assert.rejects(client.setStatus("busy", "x".repeat(141)), RangeError);
  await assert.rejects(client.watch("bob"), TypeError);
  assert.deepEqual(bench.socket.take().slice(1), []);
});

test("an id that is on its way already is not sent twice", async () => {
  const bench = new Bench();
  await bench.start();
  const { frame } = await sent(bench, "bob", 1, { id: "mine" });
  const again = await sent(bench, "bob", 1, { id: "mine" });
  assert.deepEqual([again.result.error.code, again.frame], ["already_pending", undefined]);
  const toCarol = await sent(bench, "carol", 1, { id: "mine" });
  assert.equal(toCarol.frame.to, "carol", "a name is one for each recipient");
  answer(bench.socket, frame);
  const repeat = await sent(bench, "bob", 1, { id: "mine", retry: true });
  assert.equal(repeat.frame.retry, true);
});

test("the outbox is bounded, by number and by bytes", async () => {
  const bench = new Bench({ outboxMessagesMax: 3, outboxBytesMax: 100_000 });
  await bench.client.start();
  const large = outcome(bench.client.send("bob", "x".repeat(99_000)));
  const small = outcome(bench.client.send("bob", "x".repeat(1000)));
  await turn();
  assert.deepEqual([large.error, small.error?.code, small.error?.maybeTaken], [undefined, "outbox_full", false]);
  const other = new Bench({ outboxMessagesMax: 3 });
  await other.start();
  const results = [1, 2, 3, 4].map((body) => outcome(other.client.send("bob", body)));
  await turn();
  assert.deepEqual(results.map(({ error }) => error?.code), [undefined, undefined, undefined, "outbox_full"]);
  answer(other.socket, other.socket.take("send")[0]);
  assert.equal((await sent(other, "bob", 5)).frame.body, 5, "an answer makes room");
});

test("what is said before the storage is open keeps its order, and its failure is told", async () => {
  const storage = new MemoryStorage();
  const load = storage.load.bind(storage);
  const gate = deferred();
  storage.load = async (prefix) => {
    await gate.promise;
    return load(prefix);
  };
  const bench = new Bench({ storage });
  const start = bench.client.start();
  void bench.client.send("bob", 1);
  gate.resolve();
  await start;
  void bench.client.send("bob", 2);
  await bench.welcome();
  assert.deepEqual(bodies(bench.socket), [1, 2]);
  const broken = new Bench({ storage: { load: () => Promise.reject(new Error("broken")), write: async () => {} } });
  const failing = outcome(broken.client.start());
  const send = outcome(broken.client.send("bob", 1));
  await turn();
  assert.deepEqual([failing.error.message, send.error.message], ["broken", "broken"]);
});

test("close fails what has no answer, and hears answers until the router closes", async () => {
  const bench = new Bench();
  await bench.start({ limits: { sends_in_flight: 2 } });
  const results = [1, 2, 3].map((body) => outcome(bench.client.send("bob", body)));
  await turn();
  const [first] = bench.socket.take("send");
  const end = outcome(bench.client.close());
  await bench.clock.advance(0);
  answer(bench.socket, first);
  bench.socket.end(1000);
  await turn();
  assert.ok(end.isSettled);
  assert.ok(results[0].value);
  const failures = results.slice(1).map(({ error }) => [error.code, error.maybeTaken]);
  assert.deepEqual(failures, [["closed", true], ["closed", false]]);
  assert.equal(bench.told("settled").length, 3);
});

test("sends of a listener to settled are in order", async () => {
  const bench = new Bench();
  bench.client.on("settled", ({ error }) => {
    if (error === undefined && bench.socket.texts.length < 6) void bench.client.send("bob", bench.socket.texts.length);
  });
  await bench.start();
  void bench.client.send("bob", 0);
  const order = [];
  for (let round = 0; round < 10; round += 1) {
    await turn();
    for (const frame of bench.socket.take("send")) {
      order.push(frame.body);
      answer(bench.socket, frame);
    }
  }
  assert.deepEqual(order, [0, 2, 3, 4, 5]);
});

test("ephemeral messages go out when there is a connection, and are not kept", async () => {
  const bench = new Bench();
  await bench.client.start();
  assert.equal(await bench.client.ephemeral("bob", 1), false);
  await bench.welcome();
  assert.equal(await bench.client.ephemeral("bob", 2), true);
  assert.deepEqual(bench.socket.take("send"), [{ type: "send", to: "bob", ephemeral: true, body: 2 }]);
  bench.socket.say({ type: "rejected", to: "bob", code: "forbidden", reason: "no" });
  assert.deepEqual(bench.told("refused"), [{ code: "forbidden", reason: "no", ref: "bob" }]);
});

test("pings are answered by number, and fail with the connection", async () => {
  const bench = new Bench();
  await bench.client.start();
  await assert.rejects(bench.client.ping(), { name: "NotConnectedError" });
  await bench.welcome();
  const [first, second] = [outcome(bench.client.ping()), outcome(bench.client.ping())];
  const [one, two] = bench.socket.take("ping");
  await bench.clock.advance(25);
  bench.socket.say({ type: "pong", n: two.n });
  await turn();
  assert.deepEqual([first.isSettled, second.value], [false, 25]);
  assert.notEqual(one.n, two.n);
  bench.socket.end();
  await turn();
  assert.equal(first.error.name, "NotConnectedError");
});
