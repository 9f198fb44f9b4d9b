// A real router, and a real dashboard beside it, in a directory of their own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DOORSTEP } from "./paths.js";

const START_MS = 30_000;
const STOP_MS = 30_000;

export class Router {
  /** @type {import("node:child_process").ChildProcess | undefined} */
  #process;
  /** @type {import("node:child_process").ChildProcess[]} */
  #dashboards = [];
  #listen = "127.0.0.1:0";

  /** @param {string} directory */
  constructor(directory) {
    this.directory = directory;
    this.config = join(directory, "router.toml");
    this.socket = join(directory, "admin.sock");
  }

  static async start() {
    const router = new Router(await mkdtemp(join(tmpdir(), "doorstep-browser-")));
    await writeFile(
      router.config,
      [
        `[gateway]\nlisten = "127.0.0.1:0"`,
        `[store]\npath = "${join(router.directory, "data")}"\nmin_free = "1MiB"`,
        `[admin]\nsocket = "${router.socket}"`,
        `[presence]\nlinger = "500ms"`,
      ].join("\n"),
    );
    await router.resume();
    return router;
  }

  /** Where the chat page is. */
  get address() {
    return `http://${this.#listen}/`;
  }

  /**
   * Starts it, the first time on a free port, and again on the same one.
   *
   * @param {Record<string, string>} [settings] in the names of the environment
   */
  async resume(settings = {}) {
    this.#process = spawn(DOORSTEP, ["--config", this.config], {
      env: { ...process.env, DOORSTEP__GATEWAY__LISTEN: this.#listen, ...settings },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [, address] = await told(this.#process, /ws:\/\/(127\.0\.0\.1:\d+)\//);
    this.#listen = address;
  }

  /** As a power cut would. */
  async kill() {
    await end(this.#process, "SIGKILL");
    this.#process = undefined;
  }

  /** Starts `doorstep dashboard` and gives its address, with the key that works once. */
  async dashboard() {
    const dashboard = spawn(DOORSTEP, ["dashboard", "--config", this.config], { stdio: ["ignore", "pipe", "pipe"] });
    this.#dashboards.push(dashboard);
    const [address] = await told(dashboard, /http:\/\/127\.0\.0\.1:\d+\/\?key=\S+/);
    return address;
  }

  async close() {
    for (const dashboard of this.#dashboards) await end(dashboard, "SIGKILL");
    await end(this.#process, "SIGKILL");
    await rm(this.directory, { recursive: true, force: true });
  }

  /**
   * Asks the admin socket.
   *
   * @param {string} method
   * @param {string} path
   * @param {string} [text] the body
   * @returns {Promise<any>}
   */
  async admin(method, path, text) {
    const call = request({ socketPath: this.socket, path, method });
    call.end(text);
    const [response] = await once(call, "response");
    let answer = "";
    for await (const piece of response.setEncoding("utf8")) answer += piece;
    if (response.statusCode >= 300) throw new Error(`${method} ${path}: ${response.statusCode} ${answer}`);
    return JSON.parse(answer);
  }

  /**
   * Takes one of the places for those who hear what happens.
   *
   * @returns {Promise<() => void>} gives it back
   */
  async listen() {
    const call = request({ socketPath: this.socket, path: "/v1/events" });
    call.end();
    const [response] = await once(call, "response");
    if (response.statusCode !== 200) throw new Error(`no place to listen: ${response.statusCode}`);
    response.on("error", () => {}).resume();
    return () => call.destroy();
  }

  /**
   * Sends a message as an application server would.
   *
   * @param {string} from
   * @param {string} to
   * @param {unknown} body
   */
  send(from, to, body) {
    return this.sendText(from, to, JSON.stringify(body));
  }

  /**
   * The same with a body that is not as `JSON.stringify` would write it.
   *
   * @param {string} from
   * @param {string} to
   * @param {string} body
   */
  sendText(from, to, body) {
    return this.admin("POST", "/v1/messages", `{"from":${JSON.stringify(from)},"to":${JSON.stringify(to)},"body":${body}}`);
  }
}

/**
 * Waits until the process has printed something like `pattern`.
 *
 * @param {import("node:child_process").ChildProcess} child
 * @param {RegExp} pattern
 * @returns {Promise<RegExpExecArray>}
 */
function told(child, pattern) {
  return new Promise((resolve, reject) => {
    let text = "";
    const timer = setTimeout(() => reject(new Error(`it did not start in time; it said: ${text}`)), START_MS);
    const hear = (/** @type {Buffer} */ piece) => {
      text += piece;
      const match = pattern.exec(text);
      if (match === null) return;
      clearTimeout(timer);
      resolve(match);
    };
    child.stdout?.on("data", hear);
    child.stderr?.on("data", hear);
    child.once("error", reject);
    child.once("exit", (code) => {
      clearTimeout(timer);
      reject(new Error(`it ended with ${code} instead of starting; it said: ${text}`));
    });
  });
}

/**
 * @param {import("node:child_process").ChildProcess | undefined} child
 * @param {NodeJS.Signals} signal
 */
async function end(child, signal) {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit", { signal: AbortSignal.timeout(STOP_MS) });
  child.kill(signal);
  await ended;
}
