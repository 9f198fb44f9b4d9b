// A real browser without a window, spoken to by its debugging protocol, and a server that hands it the client.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { WebSocket } from "ws";

const START_MAX_MS = 60_000;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"];
const CALL_MAX_MS = 20_000;
const SOURCE = fileURLToPath(new URL("../../src/", import.meta.url));

const USUAL_PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export const chromium = [process.env.CHROMIUM_BIN, ...USUAL_PLACES].find((path) => path !== undefined && existsSync(path));

/** What `node:test` wants to know: why tests with a browser are left out, if they are. */
export const skip = chromium === undefined ? "no browser: install chromium, or name one with CHROMIUM_BIN" : false;
if (skip && process.env.CI === "true") throw new Error(skip);

export class Browser {
  #process;
  #directory;
  #server;
  #socket;
  #last = 0;
  #answers = new Map();

  static async start() {
    const browser = new Browser();
    browser.#directory = await mkdtemp(join(tmpdir(), "doorstep-browser-"));
    browser.#server = await serve();
    const flags = [...FLAGS, `--user-data-dir=${browser.#directory}`, "about:blank"];
    browser.#process = spawn(chromium, flags, { stdio: ["ignore", "ignore", "pipe"] });
    browser.#socket = new WebSocket(await debuggingUrl(browser.#process));
    await new Promise((resolve, reject) => browser.#socket.once("open", resolve).once("error", reject));
    browser.#socket.on("message", (text) => browser.#heard(JSON.parse(text)));
    return browser;
  }

  async stop() {
    const exited = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await exited;
    this.#socket.terminate();
    this.#server.closeAllConnections();
    this.#server.close();
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }

  /** A tab with an empty page that can import the client. */
  async tab() {
    const url = `http://127.0.0.1:${this.#server.address().port}/`;
    const { targetId } = await this.#call("Target.createTarget", { url });
    const { sessionId } = await this.#call("Target.attachToTarget", { targetId, flatten: true });
    await this.#call("Page.enable", {}, sessionId);
    const close = () => this.#call("Target.closeTarget", { targetId });
    const tab = new Tab((method, params) => this.#call(method, params, sessionId), close);
    await tab.loaded();
    return tab;
  }

  #call(method, params, sessionId) {
    this.#last += 1;
    const id = this.#last;
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((resolve, reject) => {
      const error = new Error(`no answer to ${method} ${JSON.stringify(params)}`);
      const timer = setTimeout(() => reject(error), CALL_MAX_MS);
      this.#answers.set(id, { resolve, reject, timer });
    });
  }

  #heard({ id, result, error }) {
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    clearTimeout(answer?.timer);
    if (error === undefined) answer?.resolve(result);
    else answer?.reject(new Error(error.message));
  }
}

class Tab {
  #call;

  constructor(call, close) {
    this.#call = call;
    this.close = close;
  }

  /** What an expression, or the promise that it is, comes to in the page. */
  async run(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#call("Runtime.evaluate", params);
    if (exceptionDetails === undefined) return result.value;
    throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  }

  async reload() {
    await this.run("globalThis.old = true");
    await this.#call("Page.reload", {});
    await this.loaded();
  }

  /** Resolves when a new page is there. */
  async loaded() {
    const question = "!globalThis.old && location.protocol === 'http:' && document.readyState === 'complete'";
    const deadline = Date.now() + START_MAX_MS;
    // While a page goes the question itself can fail.
    while (!(await this.run(question).catch(() => false))) {
      if (Date.now() > deadline) throw new Error("the page does not come");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function debuggingUrl(process) {
  return new Promise((resolve, reject) => {
    let log = "";
    const timer = setTimeout(() => reject(new Error(`no browser: ${log}`)), START_MAX_MS);
    process.once("exit", () => reject(new Error(`no browser: ${log}`)));
    process.stderr.on("data", (text) => {
      log = (log + text).slice(-10_000);
      const found = /DevTools listening on (\S+)/.exec(log);
      if (found === null) return;
      clearTimeout(timer);
      resolve(found[1]);
    });
  });
}

async function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    if (path === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>test</title>");
    try {
      const text = await readFile(join(SOURCE, path));
      response.setHeader("content-type", "text/javascript").end(text);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}
