// A router for each test, and the check that no page had a problem in it.

import { test as base, expect } from "@playwright/test";
import { watchProblems } from "./chat.js";
import { Router } from "./router.js";

/** @typedef {import("@playwright/test").PlaywrightTestArgs & { router: Router, problems: string[] }} Args */

/** @type {import("@playwright/test").TestType<Args, import("@playwright/test").PlaywrightWorkerArgs>} */
export const test = base.extend(
  /** @type {any} */ ({
    router: async ({}, /** @type {(router: Router) => Promise<void>} */ use) => {
      const router = await Router.start();
      try {
        await use(router);
      } finally {
        await router.close();
      }
    },
    problems: [
      async (/** @type {any} */ { context }, /** @type {(problems: string[]) => Promise<void>} */ use) => {
        /** @type {string[]} */
        const problems = [];
        context.on("page", (/** @type {import("@playwright/test").Page} */ page) => watchProblems(page, problems));
        await use(problems);
        expect(problems, "errors of scripts, or of the security policy").toEqual([]);
      },
      { auto: true },
    ],
  })
);

export { expect };
