// Makes the pictures of the README: a chat in which something waits, and a dashboard under a little load.
// `npm run screens`, with a router built; nothing else runs it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { chromium } from "@playwright/test";
import { comeIn, say, talkTo } from "./support/chat.js";
import { CHROMIUM, DOORSTEP, ROOT } from "./support/paths.js";
import { Router } from "./support/router.js";

const SCREENS = `${ROOT}proto-docs/screens`;
const LOAD_SECONDS = 40;

const router = await Router.start();
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
try {
  await mkdir(SCREENS, { recursive: true });
  await chat();
  await dashboard();
} finally {
  await browser.close();
  await router.close();
}

async function chat() {
  const context = await browser.newContext({ viewport: { width: 1000, height: 560 } });
  const alice = await comeIn(context, router.address, "alice");
  await talkTo(alice, "carol");
  await say(alice, "see you on Friday");
  await talkTo(alice, "bob");
  await say(alice, "are you there?");
  await say(alice, "the keys are under the mat");
  const bob = await comeIn(context, router.address, "bob");
  await bob.getByRole("link", { name: /^alice/ }).click();
  await say(bob, "found them, thank you");
  // For as long as it takes: typing is told now and then, and soon over.
  const typing = bob.locator("#text").pressSequentially("and I will put them back there", { delay: 200 });
  await alice.getByText("is typing").waitFor();
  await alice.screenshot({ path: `${SCREENS}/chat.png` });
  await typing;
  await context.close();
}

async function dashboard() {
  for (const [user, messages] of Object.entries({ bob: 17, carol: 9, dave: 4, erin: 2 })) {
    for (let number = 0; number < messages; number += 1) await router.send("alice", user, { text: `message ${number}` });
  }
  const url = `${router.address.replace("http", "ws")}v1/connect`;
  const load = ["relay", "--pairs", "8", "--window", "1", "--duration", `${LOAD_SECONDS}s`];
  const bench = spawn(DOORSTEP, ["bench", ...load, "--url", url, "--config", router.config], { stdio: "ignore" });
  const ended = once(bench, "exit");
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  const page = await context.newPage();
  await page.goto(await router.dashboard());
  // A chart of half a minute: the load ends by itself.
  const [code] = await ended;
  if (code !== 0) throw new Error(`the load ended with ${code}`);
  await page.screenshot({ path: `${SCREENS}/dashboard.png` });
  await context.close();
}
