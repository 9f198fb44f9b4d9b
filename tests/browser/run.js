// Runs the tests where they can run: they need a browser of the system and a built router. Without these they are
// left out, which is said; where CI=true says that nothing may be left out, that is a failure.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { CHROMIUM, DOORSTEP } from "./support/paths.js";

const missing = [
  [CHROMIUM, "Chromium (apt-get install chromium, or CHROMIUM=/path/to/it)"],
  [DOORSTEP, "the router (cargo build, or DOORSTEP_BIN=/path/to/it)"],
  [new URL("node_modules/@playwright/test", import.meta.url), "the packages (npm ci in tests/browser)"],
].filter(([path]) => !existsSync(path));

if (missing.length > 0) {
  const isFailure = process.env.CI === "true";
  console.error(`${isFailure ? "FAILED" : "SKIPPED"}: the browser tests did not run. What they need is not there:`);
  for (const [path, what] of missing) console.error(`  ${what}: nothing at ${path instanceof URL ? path.pathname : path}`);
  process.exit(isFailure ? 1 : 0);
}

const run = spawnSync(process.execPath, ["node_modules/@playwright/test/cli.js", "test", ...process.argv.slice(2)], {
  cwd: new URL(".", import.meta.url),
  stdio: "inherit",
});
process.exit(run.status ?? 1);
