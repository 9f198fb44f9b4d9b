// A reload keeps its device, no two tabs share one, and what a closed tab left is sent by another.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MemoryStorage } from "../../src/index.js";
import { webLocks } from "../../src/locks.js";
import { Bench, outcome, turn } from "../support/fake.js";

/** The locks of a browser; `close` is what happens to those of a tab. */
class FakeLockManager {
  held = new Map();
  #waiting = [];

  tab() {
    const mine = new Set();
    return {
      request: (name, options, work) => this.#request(mine, name, options, work),
      close: () => {
        for (const name of mine) this.held.delete(name);
      },
    };
  }

  async #request(mine, name, { ifAvailable, signal }, work) {
    if (this.held.has(name)) {
      if (ifAvailable) return work(null);
      await new Promise((resolve, reject) => {
        this.#waiting.push({ name, resolve });
        signal?.addEventListener("abort", () => reject(signal.reason));
      });
    }
    this.held.set(name, true);
    mine.add(name);
    try {
      return await work({ name });
    } finally {
      this.held.delete(name);
      mine.delete(name);
      const next = this.#waiting.findIndex((each) => each.name === name);
      if (next >= 0) this.#waiting.splice(next, 1)[0].resolve();
    }
  }
}

function browser() {
  const manager = new FakeLockManager();
  const storage = new MemoryStorage();
  const page = { window: new EventTarget() };
  const open = async (options = {}) => {
    const tab = manager.tab();
    const bench = new Bench({ device: undefined, storage, page, locks: webLocks(tab), ...options });
    await bench.client.start();
    return Object.assign(bench, {
      closeTab: () => {
        bench.client.abandon();
        tab.close();
      },
    });
  };
  return { open, storage, manager };
}

test("a reload gets the same device, a second tab one of its own", async () => {
  const { open } = browser();
  const first = await open();
  const { device } = first.client;
  assert.match(device, /^browser-[0-9A-Z]{26}$/);
  const second = await open();
  assert.notEqual(second.client.device, device);
  first.closeTab();
  const reloaded = await open();
  assert.equal(reloaded.client.device, device);
  second.closeTab();
  reloaded.closeTab();
  assert.equal((await open()).client.device, device, "the oldest first");
});

test("tabs that open at the same moment do not share a device, and make no more than they need", async () => {
  const { open } = browser();
  const tabs = await Promise.all(Array.from({ length: 5 }, () => open()));
  const devices = new Set(tabs.map(({ client }) => client.device));
  assert.equal(devices.size, 5);
  for (const tab of tabs) tab.closeTab();
  const again = await Promise.all(Array.from({ length: 5 }, () => open()));
  assert.deepEqual(new Set(again.map(({ client }) => client.device)), devices, "as when a browser restores them all");
});

test("what a closed tab left unsent is sent by another, under the same ids", async () => {
  const { open } = browser();
  const first = await open();
  const second = await open();
  for (const body of ["a", "b"]) void second.client.send("bob", body).catch(() => {});
  void first.client.send("bob", "mine").catch(() => {});
  await turn();
  const ids = second.client.outbox().map(({ id }) => id);
  second.closeTab();
  first.closeTab();
  const heir = await open();
  const frames = (await heir.welcome()).take("send");
  assert.equal(heir.client.device, first.client.device);
  assert.deepEqual(frames.filter(({ body }) => body !== "mine").map(({ id }) => id), ids);
  assert.ok(frames.every(({ retry }) => retry));
  assert.equal(frames.length, 3);
  const other = await open();
  assert.deepEqual(other.client.outbox(), [], "and by nobody else");
});

test("the outbox of a tab that lives is left alone", async () => {
  const { open } = browser();
  const first = await open();
  void first.client.send("bob", 1).catch(() => {});
  await turn();
  const second = await open();
  assert.deepEqual(second.client.outbox(), []);
  assert.equal(first.client.outbox().length, 1);
});

test("users and routers do not share devices", async () => {
  const { open } = browser();
  const me = await open();
  void me.client.send("bob", 1).catch(() => {});
  await turn();
  me.closeTab();
  const you = await open({ user: "you" });
  const elsewhere = await open({ url: "ws://elsewhere.test/v1/connect" });
  assert.equal(new Set([me, you, elsewhere].map(({ client }) => client.device)).size, 1 + 2);
  assert.deepEqual([...you.client.outbox(), ...elsewhere.client.outbox()], []);
});

test("a lock is let go of when the client closes or forgets", async () => {
  for (const way of ["close", "forget"]) {
    const { open, manager } = browser();
    const bench = await open();
    await bench.welcome();
    void bench.client[way]();
    await bench.clock.advance(0);
    bench.socket.end(1000);
    await turn();
    assert.equal(bench.client.state, "closed");
    assert.equal(manager.held.size, 0, way);
  }
});

test("a storage that fails while the client starts leaves no lock behind", async () => {
  const { open, storage, manager } = browser();
  const load = storage.load.bind(storage);
  storage.load = async (prefix) => {
    if (prefix.includes("/devices/")) throw new Error("broken");
    return load(prefix);
  };
  await assert.rejects(open(), /broken/);
  await turn();
  assert.equal(manager.held.size, 0);
});

class FakeSessionStorage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, value);
  removeItem = (key) => void this.items.delete(key);
}

test("without locks a page keeps its device over a reload, and a copy of the tab has one of its own", async () => {
  const storage = new MemoryStorage();
  const open = async (sessionStorage) => {
    const page = { window: new EventTarget(), sessionStorage };
    const bench = new Bench({ device: undefined, storage, page, locks: null });
    await bench.client.start();
    return { bench, window: page.window, device: bench.client.device };
  };
  const session = new FakeSessionStorage();
  const first = await open(session);
  const copied = new FakeSessionStorage();
  copied.items = new Map(session.items);
  const duplicate = await open(copied);
  assert.notEqual(duplicate.device, first.device);
  void first.bench.client.send("bob", 1).catch(() => {});
  await turn();
  first.window.dispatchEvent(new Event("pagehide"));
  const reloaded = await open(session);
  assert.equal(reloaded.device, first.device);
  assert.equal(reloaded.bench.client.outbox().length, 1);
});

test("in Node a storage keeps the device, and one process has as many as it has clients", async () => {
  const storage = new MemoryStorage();
  const open = async () => {
    const bench = new Bench({ device: undefined, storage });
    await bench.client.start();
    return bench;
  };
  const [first, second] = [await open(), await open()];
  assert.notEqual(first.client.device, second.client.device);
  first.client.abandon();
  assert.equal((await open()).client.device, first.client.device);
});

test("state that belongs to somebody else is not used", async () => {
  const storage = new MemoryStorage();
  const options = { user: undefined, token: () => "t", storage };
  const bench = new Bench(options);
  await bench.start({ user: "alice" });
  void bench.client.send("bob", "of alice").catch(() => {});
  await turn();
  bench.client.abandon();
  const later = bench.another();
  await later.start();
  await bench.welcome({ user: "mallory" });
  assert.equal(bench.told("closed")[0].reason, "impossible");
  assert.deepEqual(bench.socket.take("send"), []);
});

test("where the browser refuses IndexedDB the client goes on without, and claims to keep nothing", async () => {
  globalThis.indexedDB = {
    open: () => {
      const request = { error: new Error("not in a private window") };
      queueMicrotask(() => request.onerror());
      return request;
    },
  };
  globalThis.IDBKeyRange ??= { bound: () => ({}) };
  try {
    const bench = new Bench({ storage: undefined });
    await bench.start();
    assert.equal(bench.errors[0].message, "not in a private window");
    const send = outcome(bench.client.send("bob", 1));
    bench.socket.end(4409);
    await turn();
    assert.deepEqual([send.error.code, send.error.kept], ["closed", false]);
    const other = new Bench({ storage: undefined });
    await other.client.start();
    const late = outcome(other.client.send("bob", 1));
    await other.clock.advance(30_000);
    assert.equal(late.error.code, "timeout");
  } finally {
    delete globalThis.indexedDB;
  }
});
