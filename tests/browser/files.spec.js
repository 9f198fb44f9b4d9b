// The files of the pages as they lie in the repository.

import { test, expect } from "@playwright/test";
import { readdirSync, readFileSync } from "node:fs";
import { ROOT } from "./support/paths.js";

const read = (/** @type {string} */ path) => readFileSync(`${ROOT}clients/${path}`, "utf8");

test("both pages use everything that they share", () => {
  for (const page of ["demo", "dashboard"]) {
    const text = readdirSync(`${ROOT}clients/${page}`).map((file) => read(`${page}/${file}`)).join();
    for (const file of readdirSync(`${ROOT}clients/shared`)) expect(text, page).toContain(`"/shared/${file}"`);
  }
});

test("the pages hold no inline script or style, and nothing from elsewhere", () => {
  for (const page of ["demo", "dashboard", "shared"]) {
    const html = page === "shared" ? "" : read(`${page}/index.html`);
    expect(html.match(/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:/g), page).toBeNull();
    for (const file of readdirSync(`${ROOT}clients/${page}`)) {
      const text = read(`${page}/${file}`).replaceAll("http://www.w3.org/2000/svg", "");
      expect(text.match(/https?:\/\/|innerHTML|insertAdjacentHTML|document\.write|\beval\(/g), `${page}/${file}`).toBeNull();
    }
  }
});

test("every file of a page is asked for by it, and every one that is asked for is there", () => {
  for (const page of ["demo", "dashboard"]) {
    const files = readdirSync(`${ROOT}clients/${page}`);
    const asked = new Set(["index.html"]);
    for (const file of files) {
      const text = read(`${page}/${file}`);
      for (const [, name] of text.matchAll(/(?:from|import|src=|href=)\s*"(?:\.\/)?([\w.-]+\.(?:js|css|svg))"/g)) asked.add(name);
    }
    expect([...asked].sort(), page).toEqual(files.sort());
  }
});
