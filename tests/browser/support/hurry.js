// A page that waits before it tries again, and a test that does not want to wait as long.

/**
 * Asks the page not to wait for its next try. It may have tried by itself meanwhile: then the button is gone, and what was
 * to be hurried has happened.
 *
 * @param {import("@playwright/test").Page} page
 */
export async function hurry(page) {
  await page.getByRole("button", { name: "Try now" }).click({ timeout: 2000 }).catch(() => {});
}
