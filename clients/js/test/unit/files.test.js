// What browsers are served has to run there as it stands.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";

const SOURCE = new URL("../../src/", import.meta.url);

/** The files that one file imports, with what it imports that is no file of ours. */
async function importsOf(url) {
  const text = await readFile(url, "utf8");
  const names = [...text.matchAll(/^(?:import|export)[^;]*?from "([^"]+)"/gm)].map(([, name]) => name);
  return names.map((name) => ({ name, url: new URL(name, url) }));
}

async function reached(url, seen = new Map()) {
  if (seen.has(url.href)) return seen;
  const imports = await importsOf(url);
  seen.set(url.href, imports.map(({ name }) => name));
  for (const next of imports) if (next.name.startsWith(".")) await reached(next.url, seen);
  return seen;
}

test("what index.js reaches are files beside it, by their whole names", async () => {
  const files = await reached(new URL("index.js", SOURCE));
  assert.ok(files.size > 20);
  for (const [file, names] of files) {
    assert.ok(file.startsWith(SOURCE.href), file);
    for (const name of names) assert.match(name, /^\.{1,2}\/[a-z/]+\.js$/, file);
  }
  assert.ok(![...files.keys()].some((file) => file.endsWith("storage/file.js")));
});

test("files are of a size that one can read", async () => {
  for (const name of await readdir(SOURCE, { recursive: true })) {
    if (!name.endsWith(".js")) continue;
    const lines = (await readFile(new URL(name, SOURCE), "utf8")).split("\n");
    assert.ok(lines.length < 500, `${name}: ${lines.length} lines`);
    for (const line of lines) assert.ok(line.length <= 120, `${name}: ${line}`);
  }
});
