// Holds proto-docs/asyncapi.yaml, or the file that is named, against the AsyncAPI specification, with the official
// parser, which follows every reference. Ends with 1 on any error or warning. (That the examples fit their schemas is
// tried by tests/asyncapi.rs.)
//
//   npm ci && node check.js

import { fileURLToPath } from "node:url";
import { Parser, fromFile } from "@asyncapi/parser";

/** What the parser calls an error or a warning; advice such as a newer version of the specification is neither. */
const WARNING = 1;

const path = process.argv[2] ?? fileURLToPath(new URL("../../proto-docs/asyncapi.yaml", import.meta.url));
const { document, diagnostics } = await fromFile(new Parser(), path).parse();
const faults = diagnostics.filter(({ severity }) => severity <= WARNING);
for (const { path: at, range, message } of faults) {
  console.error(`${path}:${range.start.line + 1}: ${at.join(".")}: ${message}`);
}
if (!document || faults.length > 0) {
  process.exit(1);
}
const messages = document.channels().all().flatMap((channel) => channel.messages().all());
console.log(`ok: ${document.operations().all().length} operations, ${messages.length} messages`);
