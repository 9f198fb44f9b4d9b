// The chat page against a real router: what is written arrives once and in order, whoever is away, whatever is killed
// and reloaded, and the page says how far each message has come.

import { comeIn, connected, expectTick, message, say, talkTo, texts } from "./support/chat.js";
import { expect, test } from "./support/fixtures.js";
import { hurry } from "./support/hurry.js";

test("a message to somebody who is away waits, arrives, and is read", async ({ context, router }) => {
  const alice = await comeIn(context, router.address, "alice");
  await talkTo(alice, "bob");
  await say(alice, "are you there?");
  await say(alice, "the keys are under the mat");
  await expectTick(alice, "are you there?", "✓ waiting");
  await expectTick(alice, "the keys are under the mat", "✓ waiting");

  const bob = await comeIn(context, router.address, "bob");
  await expect(bob.locator("#waited")).toHaveText("While you were away: 2 messages from one person.");
  const row = bob.getByRole("link", { name: /^alice/ });
  await expect(row).toContainText("2 unread");
  await expect(bob).toHaveTitle(/^\(2\)/);
  // Not before bob has looked at them.
  await expectTick(alice, "are you there?", "✓ waiting");

  await row.click();
  await expect(bob.locator(".divider.away")).toHaveText("While you were away: 2 messages");
  expect(await texts(bob)).toEqual(["are you there?", "the keys are under the mat"]);
  await expectTick(alice, "are you there?", "✓✓ read");
  await expectTick(alice, "the keys are under the mat", "✓✓ read");
  await expect(row).not.toContainText("unread");

  await say(bob, "thank you");
  await expect(message(alice, "thank you")).toBeVisible();
  await expectTick(bob, "thank you", "✓✓ read");
  await expect(alice.locator(".divider.away")).toHaveCount(0);
  // That something was read is told by messages too; those are not shown.
  expect(await texts(alice)).toEqual(["are you there?", "the keys are under the mat", "thank you"]);
});

test("who does not ask whether a message was read is not told", async ({ context, router }) => {
  await router.send("terminal", "bob", { text: "one" });
  const bob = await comeIn(context, router.address, "bob");
  await bob.getByRole("link", { name: /^terminal/ }).click();
  await expect(message(bob, "one")).toBeVisible();
  await expect(bob.getByRole("link", { name: /^terminal/ })).not.toContainText("unread");
  // Had the page something to tell, it would be in front of this.
  await say(bob, "two");
  await expectTick(bob, "two", "✓ waiting");
  const { messages } = await router.admin("GET", "/v1/queues/terminal/messages?bodies=true");
  expect(messages.map((/** @type {any} */ waiting) => waiting.body.text)).toEqual(["two"]);
});

test("what the other one has, but has not looked at, is handed over", async ({ context, router }) => {
  const bob = await comeIn(context, router.address, "bob");
  const alice = await comeIn(context, router.address, "alice");
  await talkTo(alice, "bob");
  // The router writes a message down after 20 ms without an ack, so that a slow machine needs more than one try.
  await expect(async () => {
    await say(alice, "hello");
    await expect(message(alice, "hello").last().locator(".tick")).toHaveText("✓✓ handed over", { timeout: 2000 });
  }).toPass();
  await expect(bob.getByRole("link", { name: /^alice/ })).toContainText("unread");
});

test("presence, status and typing are seen by the other one", async ({ context, router }) => {
  const alice = await comeIn(context, router.address, "alice");
  await talkTo(alice, "bob");
  await expect(alice.locator("#peer-status")).toHaveText("offline");
  const bob = await comeIn(context, router.address, "bob");
  await expect(alice.locator("#peer-status")).toHaveText("online");

  await bob.getByRole("button", { name: /change status/ }).click();
  await bob.getByLabel("Busy").check();
  await bob.getByLabel("What others read beside it").fill("in a call");
  await bob.getByRole("button", { name: "Save" }).click();
  await expect(alice.locator("#peer-status")).toHaveText("busy: in a call");
  await expect(bob.locator("#me-status")).toHaveText("busy: in a call");

  await talkTo(bob, "alice");
  await bob.getByLabel("Message", { exact: true }).pressSequentially("hm");
  await expect(alice.locator("#typing")).toHaveText("bob is typing …");
  await bob.getByLabel("Message", { exact: true }).fill("");
  await expect(alice.locator("#typing")).toHaveText("");

  await bob.getByRole("button", { name: /change status/ }).click();
  await bob.getByLabel(/^Invisible/).check();
  await bob.getByRole("button", { name: "Save" }).click();
  await expect(alice.locator("#peer-status")).toHaveText(/last seen|offline/);
  await bob.close();
  await expect(alice.locator("#peer-status")).toHaveText(/last seen/);
});

test("what is written while the router is dead arrives once when it is back", async ({ context, router }) => {
  const alice = await comeIn(context, router.address, "alice");
  const bob = await comeIn(context, router.address, "bob");
  await talkTo(alice, "bob");
  await talkTo(bob, "alice");
  await say(alice, "before");
  await expect(message(bob, "before")).toBeVisible();

  await router.kill();
  await expect(alice.locator("#connection-text")).toHaveText("Not connected");
  await expect(alice.locator("#connection-more")).toHaveText(/Trying again in \d+ s/);
  for (const text of ["one", "two", "three"]) await say(alice, text);
  await expectTick(alice, "two", "sending …");

  await router.resume();
  await hurry(alice);
  await connected(alice);
  await connected(bob);
  for (const text of ["one", "two", "three"]) await expectTick(alice, text, "✓✓ read");
  expect(await texts(bob)).toEqual(["before", "one", "two", "three"]);
  expect(await texts(alice)).toEqual(["before", "one", "two", "three"]);
});

test("the outbox and the conversation outlive a reload, with the router dead or not", async ({ context, router }) => {
  const alice = await comeIn(context, router.address, "alice");
  await talkTo(alice, "bob");
  await say(alice, "first");
  await expectTick(alice, "first", "✓ waiting");
  await alice.reload();
  await connected(alice);
  await expectTick(alice, "first", "✓ waiting");

  // The tab is closed with a message in its outbox; another tab of the same person takes that up.
  await router.kill();
  await expect(alice.locator("#connection-text")).toHaveText("Not connected");
  await say(alice, "second");
  await expectTick(alice, "second", "sending …");
  await alice.close();
  await router.resume();
  const again = await comeIn(context, router.address, "alice");
  await again.getByRole("link", { name: /^bob/ }).click();
  await expectTick(again, "second", "✓ waiting");
  expect(await texts(again)).toEqual(["first", "second"]);

  const bob = await comeIn(context, router.address, "bob");
  await bob.getByRole("link", { name: /^alice/ }).click();
  await expect(message(bob, "second")).toBeVisible();
  expect(await texts(bob)).toEqual(["first", "second"]);
  await bob.reload();
  await connected(bob);
  expect(await texts(bob)).toEqual(["first", "second"]);
  await expect(bob.locator(".divider.away")).toHaveText("While you were away: 2 messages");
});

test("two tabs of one person are two devices with one history", async ({ context, router }) => {
  const first = await comeIn(context, router.address, "alice");
  const second = await comeIn(context, router.address, "alice");
  const bob = await comeIn(context, router.address, "bob");
  await talkTo(bob, "alice");
  await say(bob, "to both");
  for (const tab of [first, second]) {
    await tab.getByRole("link", { name: /^bob/ }).click();
    await expect(message(tab, "to both")).toHaveCount(1);
  }
  await expectTick(bob, "to both", "✓✓ read");
  // What one tab sends is shown in the other, with its tick.
  await say(first, "from the first");
  await expectTick(second, "from the first", "✓✓ read");
  await say(second, "from the second");
  await expectTick(first, "from the second", "✓✓ read");
  await expect(message(bob, "from the second")).toBeVisible();
  const all = ["to both", "from the first", "from the second"];
  for (const tab of [first, second, bob]) expect(await texts(tab)).toEqual(all);

  const { devices, sessions } = await router.admin("GET", "/v1/users/alice");
  expect(devices).toHaveLength(2);
  expect(sessions).toHaveLength(2);
  for (const tab of [first, second]) await connected(tab);
  const { counters } = await router.admin("GET", "/v1/stats");
  expect(counters.takeovers, "no tab threw another one out").toBe(0);
});

test("a session that is taken over says so, and comes back when asked to", async ({ context, router }) => {
  const alice = await comeIn(context, router.address, "alice");
  const { devices } = await router.admin("GET", "/v1/users/alice");
  await alice.evaluate(
    ([device]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://${location.host}/v1/connect`, ["doorstep.v1"]);
        socket.onopen = () => socket.send(JSON.stringify({ type: "hello", user: "alice", device }));
        socket.onmessage = resolve;
      }),
    [devices[0].device],
  );
  await expect(alice.locator("#connection-text")).toHaveText("Open somewhere else");
  await alice.getByRole("button", { name: "Use here" }).click();
  await connected(alice);
});

test("a session that an operator closed stays closed until asked", async ({ context, router }) => {
  const alice = await comeIn(context, router.address, "alice");
  await talkTo(alice, "bob");
  const { sessions } = await router.admin("GET", "/v1/sessions");
  await router.admin("DELETE", `/v1/sessions/${sessions[0].session}`);
  await expect(alice.locator("#connection-text")).toHaveText("Closed by an operator");
  await say(alice, "written meanwhile");
  await expectTick(alice, "written meanwhile", "sending …");
  await alice.getByRole("button", { name: "Come back" }).click();
  await connected(alice);
  await expectTick(alice, "written meanwhile", "✓ waiting");
});

test("whatever somebody writes is text, and other bodies are shown as they are", async ({ context, router }) => {
  const odd = ['<img src=x onerror="document.title=1">', "שלום עולם", "👩‍👩‍👧‍👦 🎉", "two\nlines", "x".repeat(10_000)];
  for (const text of odd) await router.send("eve", "bob", { text });
  await router.send("eve", "bob", { order: 7, lines: [1, 2] });
  await router.send("eve", "bob", null);
  const bob = await comeIn(context, router.address, "bob");
  await bob.getByRole("link", { name: /^eve/ }).click();
  await expect(bob.locator("li.message")).toHaveCount(7);
  expect((await texts(bob)).slice(0, 5)).toEqual(odd);
  expect((await texts(bob))[6]).toBe("null");
  await expect(bob.locator("li.message img")).toHaveCount(0);
  await expect(bob.locator("li.message .text").nth(1)).toHaveCSS("direction", "rtl");
  const long = bob.locator("li.message").nth(4);
  const folded = await long.boundingBox();
  await long.getByRole("button", { name: "Show all of it" }).click();
  await expect.poll(async () => (await long.boundingBox())?.height).toBeGreaterThan((folded?.height ?? 0) * 2);
  await expect(bob.locator("html")).toHaveJSProperty("scrollWidth", 1100);
});

test("of very many messages the page holds the last, and finds the earlier ones", async ({ context, router }) => {
  const COUNT = 700;
  const sends = Array.from({ length: COUNT }, (_, index) => index);
  for (const index of sends) await router.send("eve", "bob", { text: `message ${index}` });
  const bob = await comeIn(context, router.address, "bob");
  await expect(bob.getByRole("link", { name: /^eve/ })).toContainText(`${COUNT} unread`, { timeout: 60_000 });
  await bob.getByRole("link", { name: /^eve/ }).click();
  await expect(message(bob, `message ${COUNT - 1}`)).toBeInViewport();
  expect(await bob.locator("li.message").count()).toBeLessThanOrEqual(300);
  await expect(bob.locator(".divider.away")).toHaveText(/^While you were away: more than \d+ messages$/);

  const earlier = bob.getByRole("button", { name: "Show earlier messages" });
  while (await earlier.isVisible()) {
    const first = await bob.locator("li.message .text").first().textContent();
    await earlier.click();
    await expect(bob.locator("li.message .text").first()).not.toHaveText(first ?? "");
  }
  await expect(bob.locator("li.message .text").first()).toHaveText("message 0");
  expect(await bob.locator("li.message").count()).toBeLessThanOrEqual(600);

  await router.send("eve", "bob", { text: "while bob reads old ones" });
  await expect(bob.locator("#jump")).toHaveText(/1 new message/);
  // It is not on the screen, so it is not read.
  await expect(bob.getByRole("link", { name: /^eve/ })).toContainText("1 unread");
  await bob.locator("#jump").click();
  await expect(message(bob, "while bob reads old ones")).toBeInViewport();
  await expect(bob.getByRole("link", { name: /^eve/ })).not.toContainText("unread");
});

test("a page that is closed while messages come in has each of them once", async ({ context, router }) => {
  const COUNT = 150;
  for (let index = 0; index < COUNT; index += 1) await router.send("eve", "bob", { text: `message ${index}` });
  const bob = await comeIn(context, router.address, "bob");
  await expect(bob.getByRole("link", { name: /^eve/ })).toContainText(/\d+ unread/);
  // Without a last word, as when the browser is killed.
  const crashed = bob.waitForEvent("crash");
  await bob.goto("chrome://crash").catch(() => {});
  await crashed;
  await bob.close();

  const again = await comeIn(context, router.address, "bob");
  await expect(again.getByRole("link", { name: /^eve/ })).toContainText(`${COUNT} unread`, { timeout: 60_000 });
  await again.getByRole("link", { name: /^eve/ }).click();
  await expect(message(again, `message ${COUNT - 1}`)).toBeVisible();
  expect(await texts(again)).toEqual(Array.from({ length: COUNT }, (_, index) => `message ${index}`));
  await expect.poll(async () => (await router.admin("GET", "/v1/queues/bob")).messages).toBe(0);
});

test("all of it can be done with a keyboard", async ({ context, router }) => {
  await router.send("carol", "alice", { text: "from carol" });
  const page = await context.newPage();
  await page.goto(router.address);
  await expect(page.getByLabel("Your name")).toBeFocused();
  await page.keyboard.type("alice/");
  await page.keyboard.press("Enter");
  await expect(page.locator("#name-error")).toHaveText(/no slash/);
  await page.keyboard.press("Backspace");
  await page.keyboard.press("Enter");
  await connected(page);
  await expect(page.getByRole("link", { name: /^carol/ })).toBeVisible();

  await page.getByLabel("Write to somebody else").focus();
  await page.keyboard.type("bob");
  await page.keyboard.press("Enter");
  const field = page.getByLabel("Message", { exact: true });
  await expect(field).toBeFocused();
  await page.keyboard.type("first line");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("second line");
  await page.keyboard.press("Enter");
  await expect(message(page, "first line\nsecond line")).toBeVisible();
  await expect(field).toHaveValue("");
  await expect(field).toBeFocused();

  await page.getByRole("link", { name: /^bob/ }).focus();
  await page.keyboard.press("ArrowDown");
  await expect(page.getByRole("link", { name: /^carol/ })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(message(page, "from carol")).toBeVisible();
  await expect(field).toBeFocused();

  await page.getByRole("button", { name: /change status/ }).focus();
  await page.keyboard.press("Enter");
  await expect(page.getByLabel("Online")).toBeFocused();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await expect(page.locator("#me-status")).toHaveText("away");
  await expect(page.getByRole("button", { name: /change status/ })).toBeFocused();
});

test("new messages are said aloud, and old ones are not", async ({ context, router }) => {
  await router.send("bob", "alice", { text: "an old one" });
  const alice = await comeIn(context, router.address, "alice");
  await alice.getByRole("link", { name: /^bob/ }).click();
  await expect(message(alice, "an old one")).toBeVisible();
  await alice.reload();
  await connected(alice);
  await expect(message(alice, "an old one")).toBeVisible();
  await expect(alice.locator("#announcer")).toHaveText("");
  await router.send("bob", "alice", { text: "a new one" });
  await expect(alice.locator("#announcer")).toHaveText("bob: a new one");
});

test("somebody can be removed, and the name can be changed", async ({ context, router }) => {
  await router.send("eve", "alice", { text: "hello" });
  const alice = await comeIn(context, router.address, "alice");
  await alice.getByRole("link", { name: /^eve/ }).click();
  await expect(message(alice, "hello")).toBeVisible();
  await alice.getByRole("button", { name: "Remove …" }).click();
  await expect(alice.getByRole("dialog", { name: "Remove eve from the list?" })).toBeVisible();
  await alice.getByRole("button", { name: "Remove", exact: true }).click();
  await expect(alice.getByRole("link", { name: /^eve/ })).toHaveCount(0);
  await alice.getByRole("button", { name: /change status/ }).click();
  await alice.getByRole("button", { name: "Be somebody else" }).click();
  await expect(alice.getByLabel("Your name")).toBeFocused();
});

test("on a phone there is one pane at a time and no sideways scrolling", async ({ browser, router }) => {
  const context = await browser.newContext({ viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });
  await router.send("a person with quite a long name, longer than the screen is wide", "alice", { text: "w".repeat(500) });
  const alice = await comeIn(context, router.address, "alice");
  const fits = async () => expect(await alice.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
  await fits();
  await alice.getByRole("link", { name: /^a person/ }).tap();
  await expect(alice.locator("li.message")).toBeInViewport();
  await expect(alice.locator("#people-list")).toBeHidden();
  await fits();
  await router.kill();
  await expect(alice.locator("#connection-text")).toBeVisible();
  await expect(alice.locator("#connection-text")).toHaveText("Not connected");
  await expect(alice.getByLabel("Message", { exact: true })).toBeInViewport();
  await fits();
  await alice.getByRole("button", { name: "Back to the list of people" }).tap();
  await expect(alice.locator("#people-list")).toBeVisible();
  await context.close();
});
