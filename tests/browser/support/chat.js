// The chat page, as somebody uses it.

import { expect } from "@playwright/test";

/** @typedef {import("@playwright/test").Page} Page */
/** @typedef {import("@playwright/test").BrowserContext} BrowserContext */

/**
 * What a page must never do: fail a script, or be stopped by its own security policy.
 *
 * @param {Page} page
 * @param {string[]} problems
 */
export function watchProblems(page, problems) {
  page.on("pageerror", (error) => problems.push(String(error.stack)));
  page.on("console", (message) => {
    // A connection that is refused while the router is down is written to the console by the browser itself.
    const isOfBrowser = /WebSocket connection to|Failed to load resource/.test(message.text());
    if (message.type() === "error" && !isOfBrowser) problems.push(message.text());
  });
}

/**
 * Opens the page and comes in.
 *
 * @param {BrowserContext} context
 * @param {string} address
 * @param {string} name
 */
export async function comeIn(context, address, name) {
  const page = await context.newPage();
  await page.goto(address);
  await page.getByLabel("Your name").fill(name);
  await page.getByRole("button", { name: "Come in" }).click();
  await connected(page);
  return page;
}

/** @param {Page} page */
export async function connected(page) {
  await expect(page.locator("#connection-text")).toHaveText("Connected", { timeout: 40_000 });
}

/**
 * Opens the conversation with somebody who may not be in the list yet.
 *
 * @param {Page} page
 * @param {string} name
 */
export async function talkTo(page, name) {
  await page.getByLabel("Write to somebody else").fill(name);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByRole("heading", { name, exact: true })).toBeVisible();
}

/**
 * @param {Page} page
 * @param {string} text
 */
export async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByLabel("Message", { exact: true }).press("Enter");
}

/**
 * The messages with this text; there should be one.
 *
 * @param {Page} page
 * @param {string} text
 */
export function message(page, text) {
  return page.locator("li.message").filter({ has: page.locator(".text", { hasText: new RegExp(`^${escaped(text)}$`) }) });
}

/** @param {string} text */
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/**
 * @param {Page} page
 * @param {string} text
 * @param {string} tick
 */
export async function expectTick(page, text, tick) {
  await expect(message(page, text).locator(".tick")).toHaveText(tick);
}

/** All texts of the conversation, in order. @param {Page} page */
export const texts = (page) => page.locator("li.message .text").allTextContents();
