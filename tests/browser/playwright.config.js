import { defineConfig } from "@playwright/test";
import { CHROMIUM } from "./support/paths.js";

export default defineConfig({
  testDir: ".",
  testMatch: "*.spec.js",
  // Each test has a router and a browser of its own, which is enough for a small machine.
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  retries: 0,
  forbidOnly: process.env.CI === "true",
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    viewport: { width: 1100, height: 760 },
    actionTimeout: 20_000,
    launchOptions: {
      executablePath: CHROMIUM,
      // Chromium's sandbox refuses to run for root, who is who runs in most containers.
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    },
    trace: "retain-on-failure",
  },
});
