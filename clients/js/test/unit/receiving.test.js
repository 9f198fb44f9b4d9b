// Each message once and in order, acknowledged when it is done and not before.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MemoryStorage } from "../../src/index.js";
import { Marks, NAMES_MAX } from "../../src/marks.js";
import { Bench, deferred, message, turn } from "../support/fake.js";

const acks = (socket) => socket.take("ack").map(({ seq }) => seq);

test("handlers run one after another, and an ack waits for them", async () => {
  const gates = [deferred(), deferred()];
  const seen = [];
  const onMessage = ({ seq }) => {
    seen.push(seq);
    return gates[seq - 1].promise;
  };
  const bench = new Bench({ onMessage });
  await bench.start();
  bench.socket.say(message(1));
  bench.socket.say(message(2));
  await turn();
  assert.deepEqual(seen, [1]);
  assert.deepEqual(acks(bench.socket), []);
  gates[0].resolve();
  await turn();
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(acks(bench.socket), [1]);
  gates[1].resolve();
  await bench.clock.advance(10);
  assert.deepEqual(acks(bench.socket), [2]);
});

test("the handler is told everything about a message", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.say(message(7, { body: { text: "hi" }, redelivered: true, ts_ms: 99, unheard: 1 }));
  await turn();
  const expected = { seq: 7, id: "m7", from: "alice", body: { text: "hi" }, tsMs: 99, redelivered: true };
  assert.deepEqual(bench.messages, [expected]);
});

test("the first ack after an idle moment goes at once, then after 32 messages or a millisecond", async () => {
  const bench = new Bench();
  await bench.start();
  const deliver = async (first, last) => {
    for (let seq = first; seq <= last; seq += 1) bench.socket.say(message(seq));
    await turn();
    return acks(bench.socket);
  };
  assert.deepEqual(await deliver(1, 1), [1]);
  assert.deepEqual(await deliver(2, 32), []);
  assert.deepEqual(await deliver(33, 33), [33]);
  assert.deepEqual(await deliver(34, 40), []);
  await bench.clock.advance(1);
  assert.deepEqual(acks(bench.socket), [40]);
});

test("an ack waits 10 ms for what is still being worked on", async () => {
  const bench = new Bench({ onMessage: ({ seq }) => (seq === 3 ? deferred().promise : undefined) });
  await bench.start();
  bench.socket.say(message(1));
  await turn();
  assert.deepEqual(acks(bench.socket), [1]);
  for (const seq of [2, 3]) bench.socket.say(message(seq));
  await bench.clock.advance(9);
  assert.deepEqual(acks(bench.socket), []);
  await bench.clock.advance(1);
  assert.deepEqual(acks(bench.socket), [2]);
});

test("batches are smaller than the window", async () => {
  const bench = new Bench();
  await bench.start({ limits: { window: 4 } });
  for (let seq = 1; seq <= 9; seq += 2) {
    bench.socket.say(message(seq));
    bench.socket.say(message(seq + 1));
    await turn();
  }
  assert.equal(acks(bench.socket).at(-1), 9, "1 at once, then two by two; 10 has company to wait for");
});

test("what comes again is acked in its turn and not handed over", async () => {
  const gate = deferred();
  const seen = [];
  const bench = new Bench({ onMessage: ({ seq }) => (seen.push(seq), seq === 2 ? gate.promise : undefined) });
  await bench.start();
  for (const seq of [1, 2, 3]) bench.socket.say(message(seq));
  await turn();
  assert.deepEqual(acks(bench.socket), [1]);
  await bench.reconnect();
  await bench.clock.advance(100);
  assert.deepEqual(acks(bench.socket), [], "this connection brought nothing yet");
  for (const seq of [1, 2, 3]) bench.socket.say(message(seq, { redelivered: true }));
  await bench.clock.advance(100);
  assert.deepEqual(acks(bench.socket), [1], "2 is still being worked on");
  gate.resolve();
  await bench.clock.advance(100);
  assert.deepEqual(acks(bench.socket), [2, 3]);
  assert.deepEqual(seen, [1, 2, 3]);
});

test("a handler that ends between two connections leaves an ack for the next one", async () => {
  const gate = deferred();
  const bench = new Bench({ onMessage: () => gate.promise });
  await bench.start();
  bench.socket.say(message(1));
  await turn();
  bench.socket.end();
  gate.resolve();
  await bench.clock.advance(1000);
  await bench.welcome();
  assert.deepEqual(acks(bench.socket), []);
  bench.socket.say(message(1, { redelivered: true }));
  await turn();
  assert.deepEqual(acks(bench.socket), [1]);
});

test("a repeat under a new seq is known by its name, an unmarked one is new", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.say(message(1, { id: "a" }));
  bench.socket.say(message(2, { id: "a", redelivered: true }));
  bench.socket.say(message(3, { id: "a" }));
  bench.socket.say(message(4, { id: "a", from: "bob", redelivered: true }));
  await bench.clock.advance(10);
  assert.deepEqual(bench.messages.map(({ seq }) => seq), [1, 3, 4]);
  assert.deepEqual(acks(bench.socket).at(-1), 4);
});

test("the very same delivery is known without the mark", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.say(message(1));
  await turn();
  await bench.reconnect();
  bench.socket.say(message(1));
  await turn();
  assert.equal(bench.messages.length, 1);
  assert.deepEqual(acks(bench.socket), [1]);
});

test("more than the window allows ends the session", async () => {
  const bench = new Bench({ onMessage: () => new Promise(() => {}) });
  await bench.start({ limits: { window: 3 } });
  for (const seq of [1, 2, 3]) bench.socket.say(message(seq));
  assert.equal(bench.told("disconnected").length, 0);
  bench.socket.say(message(4));
  assert.equal(bench.told("disconnected").length, 1);
});

test("without a handler nothing is taken", async () => {
  const bench = new Bench({ onMessage: undefined });
  await bench.start();
  bench.socket.say(message(1));
  await bench.clock.advance(1000);
  assert.deepEqual(acks(bench.socket), []);
});

test("a handler that fails is tried again, the others waiting, and given up in the end", async () => {
  const calls = [];
  const onMessage = ({ seq }) => {
    calls.push(seq);
    if (seq === 1) throw new Error("no");
  };
  const bench = new Bench({ onMessage, handlerAttempts: 3 });
  await bench.start();
  bench.socket.say(message(1));
  bench.socket.say(message(2));
  await bench.clock.advance(250);
  assert.deepEqual(calls, [1, 1]);
  assert.deepEqual(acks(bench.socket), []);
  await bench.clock.advance(1000);
  assert.deepEqual(calls, [1, 1, 1, 2]);
  assert.deepEqual(bench.poisoned.map(({ message, error }) => [message.id, error.message]), [["m1", "no"]]);
  assert.equal(acks(bench.socket).at(-1), 2);
});

test("what nobody takes as poison is given up too, and told", async () => {
  const fails = () => {
    throw new Error("no");
  };
  for (const onPoison of [undefined, fails]) {
    const bench = new Bench({ onMessage: fails, onPoison, handlerAttempts: 2 });
    await bench.start();
    bench.socket.say(message(1));
    await bench.clock.advance(60_000);
    assert.deepEqual(acks(bench.socket), [1]);
    assert.ok(bench.errors.length >= 3);
  }
});

test("a body that is no JSON is poison by name, whatever stands around it", async () => {
  const bodies = ['{"a":}', "[1,,2]", '"\\x"', "01", "{unquoted:1}", '[1,"]",}', "nul", '"tab\there"'];
  const bench = new Bench();
  await bench.start();
  bodies.forEach((body, place) => {
    const fields = `"seq":${place + 1},"id":"p${place}","from":"alice","ts_ms":5`;
    const isLast = place % 2 === 0;
    if (isLast) bench.socket.sayText(`{"type":"message",${fields},"body":${body}}`);
    else bench.socket.sayText(`{"body":${body}, "type":"message",${fields}}`);
  });
  bench.socket.say(message(20));
  await bench.clock.advance(10);
  assert.deepEqual(bench.poisoned.map(({ message }) => message.bodyText), bodies);
  assert.deepEqual(bench.poisoned.map(({ message }) => message.id), bodies.map((_, place) => `p${place}`));
  assert.deepEqual(bench.messages.map(({ seq }) => seq), [20]);
  assert.equal(acks(bench.socket).at(-1), 20);
});

test("a message that cannot be read at all ends the session: an ack must not cover it", async () => {
  const texts = ['{"type":"message","seq":1,', "[", "7", '{"type":"message","seq":1.5,"id":"a","from":"b","body":1}'];
  texts.push('{"type":"message","seq":1,"from":"b","body":1}');
  for (const text of texts) {
    const bench = new Bench();
    await bench.start();
    bench.socket.sayText(text);
    assert.equal(bench.told("disconnected").length, 1, text);
    assert.deepEqual(bench.messages, []);
  }
});

test("ephemeral messages are handed over at once, and never acked", async () => {
  const bench = new Bench({ onMessage: () => new Promise(() => {}) });
  await bench.start();
  bench.socket.say(message(1));
  bench.socket.say({ type: "message", from: "alice", ts_ms: 3, ephemeral: true, body: "typing" });
  await bench.clock.advance(100);
  assert.deepEqual(bench.told("ephemeral"), [{ from: "alice", body: "typing", tsMs: 3 }]);
  assert.deepEqual(acks(bench.socket), []);
});

test("caughtUp is told when what waited is done", async () => {
  const gate = deferred();
  const bench = new Bench({ onMessage: () => gate.promise });
  await bench.start();
  bench.socket.say(message(1));
  bench.socket.say({ type: "caught_up", seq: 1 });
  await turn();
  assert.equal(bench.told("caughtUp").length, 0);
  gate.resolve();
  await turn();
  assert.deepEqual(bench.told("caughtUp"), [{ seq: 1 }]);
});

test("a mark is stored before its ack, and a storage that fails holds the ack", async () => {
  const storage = new MemoryStorage();
  const write = storage.write.bind(storage);
  let gate = deferred();
  const bench = new Bench({ storage });
  await bench.start();
  storage.write = async (changes) => {
    await gate.promise;
    await write(changes);
  };
  bench.socket.say(message(1));
  await bench.clock.advance(100);
  assert.deepEqual(acks(bench.socket), [], "not stored yet");
  const failing = gate;
  gate = deferred();
  failing.reject(new Error("the disk is full"));
  await bench.clock.advance(0);
  assert.equal(bench.errors[0].message, "the disk is full");
  gate.resolve();
  await bench.clock.advance(5000);
  assert.deepEqual(acks(bench.socket), [1]);
});

test("marks of many messages go into few writes", async () => {
  const storage = new MemoryStorage();
  const write = storage.write.bind(storage);
  let writes = 0;
  const bench = new Bench({ storage });
  await bench.start();
  storage.write = async (changes) => {
    writes += 1;
    await new Promise((resolve) => setImmediate(resolve));
    await write(changes);
  };
  for (let seq = 1; seq <= 200; seq += 1) bench.socket.say(message(seq));
  await bench.clock.advance(10);
  assert.equal(acks(bench.socket).at(-1), 200);
  assert.ok(writes < 20, `${writes} writes`);
});

test("what an earlier process was done with is not done again", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  for (const seq of [1, 2, 3]) bench.socket.say(message(seq));
  await bench.clock.advance(100);
  bench.client.abandon();
  const messages = [];
  const later = bench.another({ onMessage: ({ seq }) => void messages.push(seq) });
  await later.start();
  await bench.welcome();
  for (const seq of [1, 2, 3, 4]) bench.socket.say(message(seq, { redelivered: true }));
  bench.socket.say(message(9, { id: "m2", redelivered: true }));
  await bench.clock.advance(100);
  assert.deepEqual(messages, [4]);
  assert.equal(acks(bench.socket).at(-1), 9);
});

test("what is done while the client closes is acked, and nothing after that is noted", async () => {
  const storage = new MemoryStorage();
  const gate = deferred();
  let client;
  const onMessage = ({ seq }) => {
    if (seq === 1) void client.close();
    else return gate.promise;
  };
  const bench = new Bench({ storage, onMessage });
  client = bench.client;
  await bench.start();
  bench.socket.say(message(1));
  bench.socket.say(message(2));
  await bench.clock.advance(0);
  assert.deepEqual(acks(bench.socket), [1]);
  bench.socket.end(1000);
  await turn();
  const before = JSON.stringify(await storage.load(""));
  gate.resolve();
  await turn();
  assert.equal(JSON.stringify(await storage.load("")), before);
});

test("an abandoned client neither acks nor stores nor calls handlers", async () => {
  const storage = new MemoryStorage();
  const gate = deferred();
  const seen = [];
  const bench = new Bench({ storage, onMessage: ({ seq }) => (seen.push(seq), gate.promise) });
  await bench.start();
  bench.socket.say(message(1));
  bench.socket.say(message(2));
  await turn();
  const before = JSON.stringify(await storage.load(""));
  bench.client.abandon();
  gate.resolve();
  await bench.clock.advance(60_000);
  assert.deepEqual(seen, [1]);
  assert.deepEqual(acks(bench.socket), []);
  assert.equal(JSON.stringify(await storage.load("")), before);
  assert.equal(bench.clock.waiting, 0);
});

test("names are remembered up to a bound, the oldest forgotten first, over processes too", () => {
  const marks = new Marks();
  const stored = new Map();
  for (let seq = 1; seq <= NAMES_MAX + 10; seq += 1) {
    for (const [key, value] of marks.add([{ seq, from: "a", id: `m${seq}` }])) stored.set(key, value);
  }
  assert.equal(stored.size, NAMES_MAX + 1);
  const later = new Marks();
  later.load([...stored].sort(([a], [b]) => (a < b ? -1 : 1)));
  const seq = NAMES_MAX + 100;
  for (const each of [marks, later]) {
    assert.equal(each.has({ seq, from: "a", id: "m10" }, true), false);
    assert.equal(each.has({ seq, from: "a", id: "m11" }, true), true);
    assert.equal(each.has({ seq: 1, from: "a", id: "m1" }, true), true, "by its seq");
  }
  for (const [key, value] of later.add([{ seq, from: "a", id: "new" }])) stored.set(key, value);
  assert.equal(stored.size, NAMES_MAX + 1, "the ring goes round");
  assert.equal(later.has({ seq: seq + 1, from: "a", id: "m11" }, true), false);
});

test("what is being handled is known on the next connection without the mark too", async () => {
  const gate = deferred();
  const seen = [];
  const bench = new Bench({ onMessage: ({ seq }) => (seen.push(seq), gate.promise) });
  await bench.start();
  bench.socket.say(message(1));
  await turn();
  await bench.reconnect();
  bench.socket.say(message(1));
  gate.resolve();
  await turn();
  assert.deepEqual(seen, [1]);
  assert.deepEqual(acks(bench.socket), [1]);
});

test("a handler that comes to its end after the client did changes nothing any more", async () => {
  const storage = new MemoryStorage();
  const gate = deferred();
  const bench = new Bench({ storage, onMessage: () => gate.promise });
  await bench.start();
  bench.socket.say(message(1));
  await turn();
  void bench.client.close();
  await bench.clock.advance(0);
  bench.socket.end(1000);
  await turn();
  const before = JSON.stringify(await storage.load(""));
  gate.resolve();
  await turn();
  assert.equal(JSON.stringify(await storage.load("")), before);
});

test("a handler that fails while the client closes is not done", async () => {
  const gate = deferred();
  const bench = new Bench({ onMessage: () => gate.promise });
  await bench.start();
  bench.socket.say(message(1));
  await turn();
  void bench.client.close();
  gate.reject(new Error("too late"));
  await bench.clock.advance(0);
  assert.deepEqual(acks(bench.socket), []);
  assert.equal(bench.socket.closedWith, 1000);
});
