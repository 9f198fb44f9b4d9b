// Both pages against the rules of axe, in light and in dark: contrast, names, roles, landmarks.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { comeIn, message, say, talkTo } from "./support/chat.js";
import { expect, test } from "./support/fixtures.js";

const AXE = readFileSync(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

/** @param {import("@playwright/test").Page} page @param {string} where */
async function check(page, where) {
  // Through the debugger, which the page's security policy does not hold back.
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (window).axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return violations.map((/** @type {any} */ { id, help, nodes }) => ({ id, help, where: nodes.map((/** @type {any} */ node) => node.target.join(" ")) }));
  });
  expect(found, where).toEqual([]);
}

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test(`the chat page keeps the rules in ${colorScheme}`, async ({ browser, router }) => {
    const context = await browser.newContext({ colorScheme });
    const page = await context.newPage();
    await page.goto(router.address);
    await expect(page.getByLabel("Your name")).toBeVisible();
    await page.getByRole("button", { name: "Come in" }).click();
    await check(page, "the entrance, with an error");
    await page.close();

    await router.send("eve", "alice", { text: "hello" });
    const alice = await comeIn(context, router.address, "alice");
    await expect(alice.locator("#waited")).toBeVisible();
    await check(alice, "nobody chosen");
    await talkTo(alice, "bob");
    await say(alice, "waiting");
    await expect(message(alice, "waiting").locator(".tick")).toHaveText("✓ waiting");
    await say(alice, "long ".repeat(500));
    const bob = await comeIn(context, router.address, "bob");
    await bob.getByRole("link", { name: /^alice/ }).click();
    await expect(message(alice, "waiting").locator(".tick")).toHaveText("✓✓ read");
    await check(alice, "a conversation");
    await check(bob, "a conversation with messages that waited");
    await alice.getByRole("button", { name: /change status/ }).click();
    await check(alice, "the status");
    await alice.keyboard.press("Escape");
    await router.kill();
    await expect(alice.getByRole("button", { name: "Try now" }).or(alice.getByText("Connecting"))).toBeVisible();
    await say(alice, "sending");
    await check(alice, "not connected");
    await alice.setViewportSize({ width: 360, height: 640 });
    await check(alice, "on a phone");
    await context.close();
  });

  test(`the dashboard keeps the rules in ${colorScheme}`, async ({ browser, router }) => {
    for (const user of ["bob", "carol"]) await router.send("alice", user, { text: "hello" });
    await router.admin("DELETE", "/v1/queues/carol");
    const context = await browser.newContext({ colorScheme });
    await comeIn(context, router.address, "dave");
    const page = await context.newPage();
    await page.goto(await router.dashboard());
    await expect(page.locator("#link-text")).toHaveText("Live");
    for (const width of [1100, 360]) {
      await page.setViewportSize({ width, height: 760 });
      for (const hash of ["#/", "#/queues", "#/users", "#/users/bob", "#/users/dave", "#/sessions", "#/dead-letters", "#/events", "#/daemon"]) {
        await page.evaluate((to) => (location.hash = to), hash);
        await expect(page.locator("main .card").first()).toBeVisible();
        await expect(page.locator("main").getByText(/bob|dave|commit_delay|Nothing yet|carol/).first()).toBeVisible();
        await check(page, `${hash} at ${width}`);
      }
    }
    await page.evaluate(() => (location.hash = "#/users/bob"));
    await page.getByRole("button", { name: "Purge the queue …" }).click();
    await check(page, "a question");
    await page.keyboard.press("Escape");
    await router.kill();
    await expect(page.locator(".banner")).toBeVisible();
    await check(page, "the daemon is down");
    await context.close();
  });
}
