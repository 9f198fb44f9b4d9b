// The dashboard against a real router: it shows what is there, changes it only after asking, and recovers by itself.

import { expect, test } from "./support/fixtures.js";
import { hurry } from "./support/hurry.js";

/**
 * @param {import("@playwright/test").BrowserContext} context
 * @param {import("./support/router.js").Router} router
 */
async function open(context, router) {
  const page = await context.newPage();
  await page.goto(await router.dashboard());
  await expect(page.locator("#link-text")).toHaveText("Live");
  return page;
}

/**
 * The row of a table that begins with this.
 *
 * @param {import("@playwright/test").Page} page
 * @param {string} table
 * @param {string | RegExp} text
 */
const row = (page, table, text) => page.getByRole("table", { name: table }).getByRole("row").filter({ hasText: text });

test("the overview shows what waits, and follows what happens", async ({ context, router }) => {
  for (let index = 0; index < 3; index += 1) await router.send("alice", "bob", { text: `message ${index}` });
  const page = await open(context, router);
  await expect(page.getByRole("heading", { name: "Overview" })).toBeVisible();
  await expect(row(page, "Longest queues", "bob")).toContainText("3");
  const waiting = page.locator(".chart", { has: page.getByRole("heading", { name: "Waiting on disk" }) });
  await expect(waiting.locator(".chart-figure")).toHaveText("3");
  await router.send("alice", "carol", { text: "hello" });
  await expect(waiting.locator(".chart-figure")).toHaveText("4");
  await expect(page.locator(".feed li").filter({ hasText: "carol" })).toContainText("1 message put on disk");
  await expect(waiting.locator("path.line")).toHaveAttribute("d", /^M[\d.]+ [\d.]+L/);
});

test("a queue is looked at, and purged after a question", async ({ context, router }) => {
  for (let index = 0; index < 30; index += 1) await router.send("alice", "bob", { text: `message ${index}`, price: 1.5 });
  await router.send("alice", "Jürgen + M", { text: "hello" });
  const page = await open(context, router);
  await page.getByRole("link", { name: "Queues", exact: true }).click();
  await expect(row(page, "Queues", "Jürgen + M")).toContainText("1");
  await page.getByRole("link", { name: "Age", exact: true }).click();
  await expect(page).toHaveURL(/#\/queues\?sort=age$/);
  await row(page, "Queues", "bob").getByRole("link").click();
  await expect(page).toHaveURL(/#\/users\/bob$/);

  const messages = page.getByRole("table", { name: "Messages that wait for bob" });
  await expect(messages.getByRole("row")).toHaveCount(26);
  await messages.getByRole("button", { name: /^Show body/ }).first().click();
  // Byte for byte, and not as a program would write it again.
  await expect(messages.locator("pre").first()).toHaveText('{"text":"message 0","price":1.5}');
  await page.getByRole("button", { name: "Next page" }).click();
  await expect(messages.getByRole("row")).toHaveCount(6);
  await page.getByRole("button", { name: "Previous page" }).click();
  await expect(messages.getByRole("row")).toHaveCount(26);

  await messages.getByRole("button", { name: /^Purge message/ }).first().click();
  await page.getByRole("button", { name: "Purge the message" }).click();
  await expect(page.locator("#toast")).toHaveText("Purged 1 message of bob.");
  await expect(page.getByText("29 messages")).toBeVisible();

  await page.getByRole("button", { name: "Purge the queue …" }).click();
  const dialog = page.getByRole("dialog", { name: "Purge all that waits for bob?" });
  await expect(dialog).toContainText("dead letters");
  await expect(dialog.getByRole("button", { name: "Cancel" })).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(dialog).toHaveCount(0);
  expect((await router.admin("GET", "/v1/queues/bob")).messages, "nothing happens without a yes").toBe(29);

  await page.getByRole("button", { name: "Purge the queue …" }).click();
  await dialog.getByRole("button", { name: "Purge the queue" }).click();
  await expect(page.locator("#toast")).toHaveText("Purged 29 messages of bob.");
  expect((await router.admin("GET", "/v1/queues")).queues.map((/** @type {any} */ queue) => queue.user)).toEqual(["Jürgen + M"]);

  await page.goto(`${new URL(page.url()).origin}/#/users/${encodeURIComponent("Jürgen + M")}`);
  await expect(page.getByRole("heading", { level: 1, name: "Jürgen + M" })).toBeVisible();
  await expect(page.getByText("1 message (")).toBeVisible();
});

test("bodies are shown byte for byte", async ({ context, router }) => {
  const bodies = [
    '{ "a": 1.50, "a": 12345678901234567890, "body": {"body":"\\"}]"} }',
    '"body\\": \\u0022"',
    '[ -1e999, "]", {} , null ]',
    "1E400",
  ];
  for (const body of bodies) await router.sendText("alice", "bob", body);
  const page = await open(context, router);
  await page.evaluate(() => (location.hash = "#/users/bob"));
  const messages = page.getByRole("table", { name: "Messages that wait for bob" });
  for (const [index, body] of bodies.entries()) {
    const message = messages.getByRole("row").nth(index + 1);
    await message.getByRole("button", { name: /^Show body/ }).click();
    await expect(message.locator("pre")).toBeVisible();
    expect(await message.locator("pre").textContent()).toBe(body);
  }
});

test("a dead letter goes back into the queue, and the list is cleared after a question", async ({ context, router }) => {
  for (const text of ["one", "two"]) await router.send("alice", "bob", { text });
  await router.admin("DELETE", "/v1/queues/bob");
  const page = await open(context, router);
  await page.getByRole("link", { name: "Dead letters" }).click();
  const letters = page.getByRole("table", { name: "Dead letters" });
  await expect(letters.getByRole("row")).toHaveCount(3);
  const first = letters.getByRole("row").nth(1);
  await expect(first).toContainText("purged by an operator");
  await first.getByRole("button", { name: /^Show body/ }).click();
  await expect(first.locator("pre")).toHaveText('{"text":"one"}');
  await first.getByRole("button", { name: /^Queue again/ }).click();
  await expect(page.locator("#toast")).toHaveText(/^Queued again for bob, with seq \d+\.$/);
  const { messages } = await router.admin("GET", "/v1/queues/bob/messages?bodies=true");
  expect(messages.map((/** @type {any} */ message) => [message.from, message.body])).toEqual([["alice", { text: "one" }]]);

  await page.getByRole("button", { name: "Clear the list …" }).click();
  const dialog = page.getByRole("dialog", { name: "Clear all dead letters?" });
  await expect(dialog).toContainText("no way back");
  await dialog.getByRole("button", { name: "Delete them all" }).click();
  await expect(page.locator("#toast")).toHaveText(/^Deleted \d+ dead letters?\.$/);
  expect((await router.admin("GET", "/v1/dead-letters")).dead_letters).toEqual([]);
  await expect(page.getByText("None: everything that was accepted was delivered")).toBeVisible();
});

test("a session is closed and a device forgotten, each after a question", async ({ context, router }) => {
  const client = await context.newPage();
  await client.goto(router.address);
  await client.getByLabel("Your name").fill("carol");
  await client.getByRole("button", { name: "Come in" }).click();
  await expect(client.locator("#connection-text")).toHaveText("Connected");

  const page = await open(context, router);
  await page.getByRole("link", { name: "Sessions" }).click();
  await row(page, "Sessions", "carol").getByRole("button", { name: /^Close the session of carol/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Close the session" }).click();
  await expect(page.locator("#toast")).toHaveText(/^Closed the session of carol/);
  await expect(page.getByText("Nobody is connected.")).toBeVisible();
  await expect(client.locator("#connection-text")).toHaveText("Closed by an operator");

  await page.getByRole("link", { name: "Users" }).click();
  await page.getByLabel("Name of a user").fill("carol");
  await page.getByRole("button", { name: "Show" }).click();
  await expect(page.getByRole("table", { name: "Devices" }).getByRole("row")).toHaveCount(2);
  await page.getByRole("button", { name: /^Forget device/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Forget the device" }).click();
  await expect(page.locator("#toast")).toHaveText(/^Forgot device/);
  await expect(page.getByText(/No device is registered\.|Nothing is known of carol/).filter({ visible: true })).toHaveCount(1);
});

test("events come as they happen, are filtered and can be held", async ({ context, router }) => {
  const page = await open(context, router);
  await page.getByRole("link", { name: "Events", exact: true }).click();
  const feed = page.locator(".feed li");
  await router.send("alice", "bob", { text: "hello" });
  await expect(feed.filter({ hasText: "bob" }).filter({ hasText: "Put on disk" })).toContainText("1 message put on disk");
  await page.getByLabel("Put on disk").uncheck();
  await expect(feed.filter({ hasText: "Put on disk" })).toHaveCount(0);
  await page.getByLabel("Put on disk").check();
  await page.getByRole("button", { name: "Pause" }).click();
  await router.admin("DELETE", "/v1/queues/bob");
  await router.send("alice", "carol", { text: "hello" });
  await page.getByRole("link", { name: "Overview" }).click();
  await expect(feed.filter({ hasText: "carol" })).toHaveCount(1);
  await page.getByRole("link", { name: "Events", exact: true }).click();
  await expect(feed.filter({ hasText: "Dead letter" })).toContainText("purged by an operator");
});

test("when the daemon is down the page says so, and recovers by itself", async ({ context, router }) => {
  await router.send("alice", "bob", { text: "hello" });
  const page = await open(context, router);
  await router.kill();
  const banner = page.locator(".banner");
  await expect(banner).toContainText("The daemon cannot be reached.");
  await expect(page.locator("#link-text")).toHaveText("Not connected");
  await expect(banner.getByRole("button", { name: "Try now" })).toBeVisible();
  await router.resume();
  await expect(page.locator("#link-text")).toHaveText("Live", { timeout: 40_000 });
  await expect(banner).toHaveCount(0);
  await expect(row(page, "Longest queues", "bob")).toContainText("1");
});

test("where no place to listen is free, the figures are asked for", async ({ context, router }) => {
  const places = [];
  for (let place = 0; place < 8; place += 1) places.push(await router.listen());
  const page = await context.newPage();
  await page.goto(await router.dashboard());
  await expect(page.locator("#link-text")).toHaveText("Asking");
  await expect(page.locator(".banner")).toContainText("Eight pages or programs listen");
  const waiting = page.locator(".chart", { has: page.getByRole("heading", { name: "Waiting on disk" }) });
  await router.send("alice", "bob", "one");
  await expect(waiting.locator(".chart-figure")).toHaveText("1");
  await router.send("alice", "bob", "two");
  await expect(waiting.locator(".chart-figure")).toHaveText("2");
  places[0]();
  await hurry(page);
  await expect(page.locator("#link-text")).toHaveText("Live");
  await expect(page.locator(".banner")).toHaveCount(0);
});

test("a disk that is low is told on every page, and no longer when there is room", async ({ context, router }) => {
  await context.clock.install();
  await router.kill();
  await router.resume({ DOORSTEP__STORE__MIN_FREE: "1000TiB" });
  const page = await open(context, router);
  await expect(page.locator(".banner.grave")).toContainText("The disk is low.");
  await page.getByRole("link", { name: "Users", exact: true }).click();
  await expect(page.locator(".banner.grave")).toContainText("messages for the disk are refused");
  await router.kill();
  await expect(page.locator("#link-text")).toHaveText("Not connected");
  // From here on it does not come back by itself: the button does it.
  await context.clock.pauseAt(Date.now() + 60_000);
  await router.resume();
  await page.getByRole("button", { name: "Try now" }).click();
  await expect(page.locator("#link-text")).toHaveText("Live");
  await context.clock.resume();
  await expect(page.locator(".banner")).toHaveCount(0);
});

test("a drain is asked for, begins, and is told", async ({ context, router }) => {
  const page = await open(context, router);
  await page.getByRole("link", { name: "Daemon" }).click();
  await expect(page.getByText("commit_delay", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Drain …" }).click();
  await page.getByRole("button", { name: "Drain and stop" }).click();
  // It may be gone before the page has asked how it is.
  await expect(page.locator(".banner")).toContainText(/The daemon (drains|cannot be reached)\./);
  await expect(page.locator(".banner")).toContainText("The daemon cannot be reached.");
});

test("what the API refuses is said in words", async ({ context, router }) => {
  const page = await open(context, router);
  await page.goto(`${new URL(page.url()).origin}/#/users/nobody`);
  await expect(page.getByText("Nothing is known of nobody")).toBeVisible();
  await page.route("**/v1/queues?*", (route) =>
    route.fulfill({ status: 503, contentType: "application/problem+json", body: '{"status":503,"code":"overloaded","detail":"the shard is busy"}' }),
  );
  await page.goto(`${new URL(page.url()).origin}/#/queues`);
  await expect(page.getByRole("alert").filter({ hasText: "too much to do" })).toHaveText(/The daemon has too much to do.*The shard is busy/);
  await page.unroute("**/v1/queues?*");
  await expect(page.getByRole("alert").filter({ hasText: "too much to do" })).toHaveCount(0);
});

test("all of it can be done with a keyboard", async ({ context, router }) => {
  await router.send("alice", "bob", { text: "hello" });
  const page = await open(context, router);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("#main")).toBeFocused();
  await page.getByRole("link", { name: "Queues", exact: true }).focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Queues" })).toBeFocused();
  for (const name of ["Messages", "Bytes", "Age", "bob"]) {
    await page.keyboard.press("Tab");
    await expect(page.getByRole("link", { name, exact: true })).toBeFocused();
  }
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "bob" })).toBeFocused();
  const purge = page.getByRole("button", { name: "Purge the queue …" });
  await expect(purge).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(purge).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Cancel" })).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(page.locator("#toast")).toHaveText("Purged 1 message of bob.");
});

test("on a phone nothing scrolls sideways", async ({ browser, router }) => {
  const context = await browser.newContext({ viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });
  const name = "a-name-that-is-much-longer-than-a-phone-is-wide-and-has-no-space-in-it";
  for (const user of [name, "bob"]) await router.send("alice", user, { text: "w".repeat(300) });
  await router.admin("DELETE", "/v1/queues/bob");
  const page = await open(context, router);
  for (const hash of ["#/", "#/queues", "#/users", `#/users/${name}`, "#/sessions", "#/dead-letters", "#/events", "#/daemon"]) {
    await page.evaluate((to) => (location.hash = to), hash);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    const body = page.getByRole("button", { name: /^Show body/ }).first();
    if (/name|letters/.test(hash)) await body.click();
    await expect(page.locator("pre:visible")).toHaveCount(/name|letters/.test(hash) ? 1 : 0);
    expect(await page.evaluate(() => document.documentElement.scrollWidth), hash).toBeLessThanOrEqual(360);
  }
  await context.close();
});
