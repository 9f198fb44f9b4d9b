// What is sent outlives the process: stored before it goes out, and gone before its answer is told.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MemoryStorage } from "../../src/index.js";
import { Bench, deferred, outcome, turn } from "../support/fake.js";
import { answer, bodies, reject, sent } from "../support/sends.js";

test("no frame goes out before its message is stored", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  const gate = deferred();
  const write = storage.write.bind(storage);
  storage.write = async (changes) => {
    await gate.promise;
    await write(changes);
  };
  for (const body of [1, 2]) void bench.client.send("bob", body);
  await turn();
  assert.deepEqual(bodies(bench.socket), []);
  gate.resolve();
  await turn();
  assert.deepEqual(bodies(bench.socket), [1, 2]);
});

test("a time that is over is told, also when the storage hangs", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  const written = outcome(bench.client.send("bob", 1, { timeoutMs: 100 }));
  await turn();
  storage.write = () => new Promise(() => {});
  const unwritten = outcome(bench.client.send("bob", 2, { timeoutMs: 100 }));
  await bench.clock.advance(100);
  assert.deepEqual([written.error.code, written.error.maybeTaken], ["timeout", true]);
  assert.deepEqual([unwritten.error.code, unwritten.error.maybeTaken], ["timeout", false]);
});

test("a send that cannot be stored fails, and does not turn up later", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  const write = storage.write.bind(storage);
  storage.write = async (changes) => {
    storage.write = write;
    await write(changes);
    throw new Error("the disk broke after it");
  };
  const result = outcome(bench.client.send("bob", 1));
  await bench.clock.advance(10_000);
  assert.deepEqual([result.error.code, result.error.maybeTaken], ["storage_failed", false]);
  assert.equal(result.error.cause.message, "the disk broke after it");
  assert.deepEqual(bodies(bench.socket), []);
  const left = (await storage.load("")).filter(([key]) => key.includes("/outbox/"));
  assert.deepEqual(left, []);
});

test("what was not answered survives the process, in order, marked as a repeat", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  for (const body of [1, 2, 3, 4]) void bench.client.send("bob", body, { ttlMs: 10 + body });
  await turn();
  const frames = bench.socket.take("send");
  answer(bench.socket, frames[1]);
  await turn();
  bench.client.abandon();
  const later = bench.another();
  await later.start();
  assert.deepEqual(later.outbox().map(({ body }) => body), [1, 3, 4]);
  const fresh = outcome(later.send("bob", 5));
  await bench.welcome();
  const repeats = bench.socket.take("send");
  const expected = [...[0, 2, 3].map((place) => ({ ...frames[place], retry: true }))];
  assert.deepEqual(repeats.slice(0, 3), expected);
  assert.deepEqual([repeats[3].body, repeats[3].retry], [5, undefined]);
  for (const frame of repeats) answer(bench.socket, frame);
  await turn();
  assert.ok(fresh.value);
  assert.equal(bench.told("settled").length, 5);
  later.abandon();
  const last = bench.another();
  await last.start();
  assert.deepEqual(last.outbox(), []);
});

test("a deadline holds in the next process too", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage, sendTimeoutMs: 1000 });
  await bench.client.start();
  void bench.client.send("bob", 1).catch(() => {});
  await turn();
  bench.client.abandon();
  await bench.clock.sleep(600);
  const later = bench.another();
  await later.start();
  await bench.clock.advance(399);
  assert.equal(bench.told("settled").length, 0);
  await bench.clock.advance(1);
  const { error } = bench.told("settled")[0];
  assert.deepEqual([error.code, error.maybeTaken], ["timeout", true], "nobody knows what became of it");
});

test("with storage a send waits for as long as it takes", async () => {
  const bench = new Bench({ storage: new MemoryStorage() });
  await bench.client.start();
  const result = outcome(bench.client.send("bob", 1));
  await bench.clock.sleep(30 * 86_400_000);
  assert.equal(result.isSettled, false);
});

test("close keeps what is stored: its promise ends, the message does not", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  const { result } = await sent(bench, "bob", 1);
  const end = outcome(bench.client.close());
  await bench.clock.advance(0);
  bench.socket.end(1000);
  await turn();
  assert.ok(end.isSettled);
  assert.deepEqual([result.error.code, result.error.kept], ["closed", true]);
  assert.equal(bench.told("settled").length, 0);
  const later = bench.another();
  await later.start();
  assert.equal(later.outbox().length, 1);
});

test("forget removes what is stored, and fails what has no answer", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage, device: undefined });
  await bench.start();
  const { result } = await sent(bench, "bob", 1);
  const end = outcome(bench.client.forget());
  bench.socket.end(1000);
  await turn();
  assert.equal(end.error, undefined);
  assert.equal(result.error.kept, false);
  assert.deepEqual(await storage.load(""), []);
});

test("a takeover ends the client for good, and keeps what is stored for the one that took over", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  const { result } = await sent(bench, "bob", 1);
  bench.socket.end(4409, "replaced");
  await bench.clock.advance(600_000);
  assert.equal(bench.sockets.length, 1);
  assert.equal(result.error.kept, true);
  assert.deepEqual(bench.told("closed"), [{ reason: "refused", code: 4409, message: "replaced" }]);
});

test("an answer to another message does not let one out that is not stored", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  const { frame } = await sent(bench, "bob", 1);
  const gate = deferred();
  storage.write = () => gate.promise;
  void bench.client.send("bob", 2);
  await turn();
  answer(bench.socket, frame);
  await turn();
  assert.deepEqual(bodies(bench.socket), []);
  gate.resolve();
  await turn();
  assert.deepEqual(bodies(bench.socket), [2]);
});

test("an answer is told when it is stored: what failed is not sent by the next process", async () => {
  const storage = new MemoryStorage();
  const bench = new Bench({ storage });
  await bench.start();
  const taken = await sent(bench, "bob", 1);
  const refused = await sent(bench, "bob", 2);
  const gate = deferred();
  const write = storage.write.bind(storage);
  storage.write = async (changes) => {
    await gate.promise;
    await write(changes);
  };
  answer(bench.socket, taken.frame);
  reject(bench.socket, refused.frame, "forbidden");
  await turn();
  assert.deepEqual([taken.result.isSettled, refused.result.isSettled], [false, false]);
  assert.deepEqual(bench.told("settled"), []);
  gate.resolve();
  await turn();
  assert.equal(taken.result.value.seq, 7);
  assert.equal(refused.result.error.code, "forbidden");
  assert.deepEqual((await storage.load("")).filter(([key]) => key.includes("/outbox/")), []);
});
