// The client as it stands in a real browser: IndexedDB, Web Locks, reloads, tabs.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WebSocket } from "ws";

import { Client } from "../../src/index.js";
import { Browser, skip as noBrowser } from "../support/browser.js";
import { Router, skip } from "../support/router.js";
import { until } from "../support/wait.js";

/** Starts a client in the page; `got` is what came. */
const START = (url) => `(async () => {
  const { Client } = await import("/index.js");
  globalThis.got = [];
  globalThis.client = new Client({
    url: "${url}", user: "alice", backoffMinMs: 10, backoffMaxMs: 200,
    onMessage: ({ body }) => void got.push(body),
  });
  await client.start();
  return client.device;
})()`;

/** Whether the storage holds so many unanswered sends of this tab's device. */
const STORED = (count) => `new Promise((resolve, reject) => {
  const request = indexedDB.open("doorstep", 1);
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const keys = request.result.transaction("records").objectStore("records").getAllKeys();
    keys.onsuccess = () => {
      request.result.close();
      resolve(keys.result.filter((key) => key.includes(client.device + "/outbox/")).length === ${count});
    };
  };
})`;

/** Sends that nobody waits for: what an expression comes to is waited for. */
const SEND_FIVE = `for (let n = 0; n < 5; n++) client.send("bob", client.device + n).catch(() => {}); 0`;

describe("in a browser", { skip: skip || noBrowser }, () => {
  test("reloads, tabs, and a router that is away", async () => {
    const [router, browser] = [await Router.start(), await Browser.start()];
    const got = [];
    const onMessage = ({ body }) => void got.push(body);
    const bob = new Client({ url: router.url, user: "bob", device: "laptop", WebSocket, onMessage });
    try {
      await bob.start();
      const first = await browser.tab();
      const device = await first.run(START(router.url));
      assert.match(device, /^browser-/);
      await first.run(`client.send("bob", "hello")`);
      await until(() => got.length === 1);

      const second = await browser.tab();
      const other = await second.run(START(router.url));
      assert.notEqual(other, device, "no two tabs share a device");
      // A device lacks what is sent after the router knows it, and `start` does not wait for that.
      await until(() => second.run(`client.state === "online"`), "the second tab is online");
      await bob.send("alice", "to both");
      for (const tab of [first, second]) await until(() => tab.run("got.length === 1"));

      await router.kill();
      for (const tab of [first, second]) await tab.run(SEND_FIVE);
      for (const tab of [first, second]) await until(() => tab.run(STORED(5)));
      await first.reload();
      assert.equal(await first.run(START(router.url)), device, "a reload keeps its device");
      assert.equal(await first.run("client.outbox().length"), 5);
      await second.close();
      // The locks of a tab go with it, and a little later than the tab.
      await until(async () => {
        await first.reload();
        assert.equal(await first.run(START(router.url)), device);
        return first.run("client.outbox().length === 10");
      }, "the outbox of the closed tab is adopted");
      await router.restart();
      await until(() => got.length >= 11);
      const numbers = [0, 1, 2, 3, 4];
      for (const name of [device, other]) {
        assert.deepEqual(got.filter((body) => body.startsWith(name)), numbers.map((n) => name + n));
      }
      await bob.send("alice", "after all that");
      await until(() => first.run(`got.includes("after all that") && !got.includes("to both")`));
    } finally {
      await bob.close();
      await browser.stop();
      await router.stop();
    }
  });
});
