// What every storage promises, and what each does when things break.

import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import { IDBFactory, IDBKeyRange } from "fake-indexeddb";

import { IndexedDbStorage, MemoryStorage } from "../../src/index.js";
import { FileStorage } from "../../src/storage/file.js";

globalThis.IDBKeyRange = IDBKeyRange;
const directory = await mkdtemp(join(tmpdir(), "doorstep-storage-"));
after(() => rm(directory, { recursive: true, force: true }));

let files = 0;
/** Each returns storages that share what is stored, one for each process. */
const kinds = {
  memory: () => {
    const storage = new MemoryStorage();
    return () => storage;
  },
  indexeddb: () => {
    const factory = new IDBFactory();
    return () => new IndexedDbStorage("test", factory);
  },
  file: () => {
    files += 1;
    const path = join(directory, "made/on/the/way", `${files}.json`);
    return () => new FileStorage(path);
  },
};

for (const [kind, make] of Object.entries(kinds)) {
  describe(kind, () => {
    test("what is written is there in the next process, by prefix and in the order of the keys", async () => {
      const open = make();
      const first = open();
      assert.deepEqual(await first.load(""), []);
      await first.write([["a/2", { n: 2 }], ["b/1", 1], ["a/10", null], ["a/1", "ü\ud83d\ude00"]]);
      await first.close();
      const second = open();
      const expected = [["a/1", "ü\ud83d\ude00"], ["a/10", null], ["a/2", { n: 2 }]];
      assert.deepEqual(await second.load("a/"), expected);
      await second.write([["a/1", undefined], ["a/2", { n: 3 }], ["never/there", undefined]]);
      assert.deepEqual(await second.load("a/"), [["a/10", null], ["a/2", { n: 3 }]]);
      assert.deepEqual(await second.load("b/"), [["b/1", 1]]);
      await second.close();
    });

    test("the last of two changes to one key holds", async () => {
      const storage = make()();
      await storage.write([["a", 1], ["a", 2], ["b", 1], ["b", undefined]]);
      assert.deepEqual(await storage.load(""), [["a", 2]]);
      await storage.close();
    });

    test("nobody shares an object with what is stored", async () => {
      const storage = make()();
      const value = { list: [1] };
      await storage.write([["a", value]]);
      value.list.push(2);
      const [[, loaded]] = await storage.load("a");
      loaded.list.push(3);
      assert.deepEqual(await storage.load("a"), [["a", { list: [1] }]]);
      await storage.close();
    });

    test("writes at once follow one another", async () => {
      const storage = make()();
      await Promise.all(Array.from({ length: 50 }, (_, n) => storage.write([["last", n], [`each/${n}`, n]])));
      assert.deepEqual(await storage.load("last"), [["last", 49]]);
      assert.equal((await storage.load("each/")).length, 50);
      await storage.close();
    });
  });
}

test("a file is never half written: what was being written is left beside it", async () => {
  const path = join(directory, "crash.json");
  const storage = new FileStorage(path);
  await storage.write([["a", 1]]);
  await writeFile(`${path}.next`, '{"format":"doorstep-client/1","rec');
  const later = new FileStorage(path);
  assert.deepEqual(await later.load(""), [["a", 1]]);
  await later.write([["b", 2]]);
  const names = await readdir(directory);
  assert.ok(!names.includes("crash.json.next"));
});

test("two processes do not overwrite each other's file", async () => {
  const path = join(directory, "shared.json");
  const [one, two] = [new FileStorage(path), new FileStorage(path)];
  await one.load("");
  await two.load("");
  await one.write([["a", 1]]);
  await assert.rejects(two.write([["b", 1]]), /another process writes/);
  assert.match(await readFile(path, "utf8"), /"a"/);
  await one.write([["c", 1]]);
});

test("a file of something else is not taken for one of these", async () => {
  const path = join(directory, "other.json");
  await writeFile(path, '{"name":"somebody else\'s"}');
  await assert.rejects(new FileStorage(path).load(""), /no file of this client/);
  assert.match(await readFile(path, "utf8"), /somebody else/);
});

test("a write that fails changes nothing, in memory neither", async () => {
  const path = join(directory, "failing.json");
  const storage = new FileStorage(path);
  await storage.write([["a", 1]]);
  await assert.rejects(storage.write([["b", 1n]]));
  assert.deepEqual(await storage.load(""), [["a", 1]]);
  await storage.write([["c", 1]]);
  assert.deepEqual((await new FileStorage(path).load("")).map(([key]) => key), ["a", "c"]);
});

test("IndexedDB: all of a transaction or nothing", async () => {
  const storage = new IndexedDbStorage("atomic", new IDBFactory());
  await storage.write([["a", 1]]);
  await assert.rejects(storage.write([["a", 2], ["b", () => {}]]));
  assert.deepEqual(await storage.load(""), [["a", 1]]);
  await storage.close();
});

test("IndexedDB: a database that is deleted under it is made anew", async () => {
  const factory = new IDBFactory();
  const storage = new IndexedDbStorage("gone", factory);
  await storage.write([["a", 1]]);
  await new Promise((resolve, reject) => {
    const request = factory.deleteDatabase("gone");
    request.onsuccess = resolve;
    request.onblocked = () => reject(new Error("the open database stands in the way"));
  });
  await storage.write([["b", 1]]);
  assert.deepEqual(await storage.load(""), [["b", 1]]);
  await storage.close();
});
