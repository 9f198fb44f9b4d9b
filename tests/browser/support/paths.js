import { fileURLToPath } from "node:url";

/** The repository. */
export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const DOORSTEP = process.env.DOORSTEP_BIN ?? `${ROOT}target/debug/doorstep`;
