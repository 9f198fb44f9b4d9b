// What is watched stays watched, and nothing older replaces what is newer.

import assert from "node:assert/strict";
import { test } from "node:test";

import { portions } from "../../src/fitting.js";
import { WATCHED_MAX } from "../../src/presence.js";
import { utf8Length } from "../../src/text.js";
import { Bench } from "../support/fake.js";

const entry = (user, version, state = "online") => ({ user, state, version });

test("what is watched, and a status, are said again on every connection", async () => {
  const bench = new Bench();
  await bench.client.watch(["alice", "carol", "alice"]);
  await bench.client.setStatus("busy", "in a meeting");
  await bench.client.unwatch(["carol", "nobody"]);
  await bench.start();
  const [hello, ...said] = bench.socket.take();
  assert.equal(hello.status, "busy");
  const expected = [
    { type: "watch", users: ["alice"] },
    { type: "status", state: "busy", text: "in a meeting" },
  ];
  assert.deepEqual(said, expected);
  await bench.client.setStatus("away");
  await bench.client.watch(["dave"]);
  assert.deepEqual(bench.socket.take(), [{ type: "status", state: "away" }, { type: "watch", users: ["dave"] }]);
  await bench.reconnect();
  const again = bench.socket.take();
  assert.equal(again[0].status, "away");
  assert.deepEqual(again.slice(1), [{ type: "watch", users: ["alice", "dave"] }]);
});

test("older presence is dropped, over connections too", async () => {
  const bench = new Bench();
  await bench.start();
  await bench.client.watch(["alice", "bob"]);
  bench.socket.say({ type: "presence", users: [entry("alice", 5), entry("bob", 1)] });
  bench.socket.say({ type: "presence", users: [entry("alice", 5, "away"), entry("bob", 2)] });
  await bench.reconnect();
  bench.socket.say({ type: "presence", users: [entry("alice", 4, "offline")] });
  assert.deepEqual(bench.told("presence"), [[entry("alice", 5), entry("bob", 1)], [entry("bob", 2)]]);
  assert.deepEqual(bench.client.presence("alice"), entry("alice", 5));
  bench.socket.say({ type: "presence", users: [{ ...entry("alice", 6), text: "here", last_seen_ms: 9 }] });
  assert.deepEqual(bench.client.presence("alice"), { ...entry("alice", 6), text: "here", lastSeenMs: 9 });
});

test("presence of oneself comes without watching, of strangers it is dropped", async () => {
  const bench = new Bench();
  await bench.start();
  bench.socket.say({ type: "presence", users: [entry("me", 1), entry("stranger", 1)] });
  assert.deepEqual(bench.told("presence"), [[entry("me", 1)]]);
  assert.equal(bench.client.presence("stranger"), undefined);
});

test("who is not watched any more is forgotten, and watching again starts afresh", async () => {
  const bench = new Bench();
  await bench.start();
  await bench.client.watch(["alice"]);
  bench.socket.say({ type: "presence", users: [entry("alice", 5)] });
  await bench.client.unwatch(["alice"]);
  assert.equal(bench.client.presence("alice"), undefined);
  bench.socket.say({ type: "presence", users: [entry("alice", 6)] });
  await bench.client.watch(["alice"]);
  bench.socket.say({ type: "presence", users: [entry("alice", 5)] });
  assert.equal(bench.told("presence").length, 2);
});

test("what is no presence breaks nothing", async () => {
  const bench = new Bench();
  await bench.start();
  for (const users of [undefined, 7, [null], [{ user: "me" }], [{ user: "me", state: "online", version: -1 }]]) {
    bench.socket.say({ type: "presence", users });
  }
  assert.deepEqual(bench.told("presence"), []);
  assert.equal(bench.client.state, "online");
});

test("names are parted by number and by what a frame holds", () => {
  const short = Array.from({ length: 600 }, (_, place) => String(place));
  assert.deepEqual(portions(short, 1 << 20).map(({ length }) => length), [256, 256, 88]);
  const long = Array.from({ length: 50 }, (_, place) => `${place}`.padEnd(128, '"'));
  const parts = portions(long, 1200);
  assert.deepEqual(parts.flat(), long);
  for (const users of parts) assert.ok(utf8Length(JSON.stringify({ type: "unwatch", users })) <= 1200);
  assert.ok(parts.length <= 13);
});

test("the number of the watched is bounded: all of a call, or none", async () => {
  const bench = new Bench();
  await bench.client.watch(["alice"]);
  const many = Array.from({ length: WATCHED_MAX }, (_, place) => String(place));
  await assert.rejects(bench.client.watch(many), RangeError);
  await bench.start();
  assert.deepEqual(bench.socket.take("watch"), [{ type: "watch", users: ["alice"] }]);
});
