// A real router, in a directory of its own, that can be killed and started again on the same port.

import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const START_MAX_MS = 30_000;
const run = promisify(execFile);

/** The daemon to test with; nothing when there is none. */
export function daemon() {
  const target = fileURLToPath(new URL("../../../../target/", import.meta.url));
  const candidates = [process.env.DOORSTEP_BIN, join(target, "debug/doorstep"), join(target, "release/doorstep")];
  const found = candidates.find((path) => path !== undefined && existsSync(path));
  if (found === undefined && process.env.CI === "true") {
    throw new Error("there is no router to test with: build it, or name it with DOORSTEP_BIN");
  }
  return found;
}

/** What `node:test` wants to know: why tests with a router are left out, if they are. */
export const skip = daemon() === undefined ? "no router: build it (cargo build), or name it with DOORSTEP_BIN" : false;

export class Router {
  #directory;
  #port;
  #process = undefined;
  #log = "";

  constructor(directory, port) {
    this.#directory = directory;
    this.#port = port;
  }

  static async start(settings = "") {
    const directory = await mkdtemp(join(tmpdir(), "doorstep-js-"));
    const port = await freePort();
    const config = `[gateway]\nlisten = "127.0.0.1:${port}"\n${settings}\n[log]\nlevel = "warn"\n`;
    await writeFile(join(directory, "router.toml"), config);
    // For those that want tokens.
    await writeFile(join(directory, "key"), "a secret of at least thirty-two bytes", { mode: 0o600 });
    const router = new Router(directory, port);
    await router.restart();
    return router;
  }

  get url() {
    return `ws://127.0.0.1:${this.#port}/v1/connect`;
  }

  async restart() {
    const process = spawn(daemon(), ["--config", join(this.#directory, "router.toml")], {
      cwd: this.#directory,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = process;
    for (const stream of [process.stdout, process.stderr]) {
      stream.on("data", (text) => {
        this.#log = (this.#log + text).slice(-10_000);
      });
    }
    process.exited = new Promise((resolve) => process.once("exit", resolve));
    await this.#listening(process);
  }

  async #listening(process) {
    const deadline = Date.now() + START_MAX_MS;
    while (!(await accepts(this.#port))) {
      if (process.exitCode !== null || Date.now() > deadline) throw new Error(`no router: ${this.#log}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** A token for a user, as the router itself makes them. */
  async token(user, ttl) {
    const command = ["token", "--user", user, "--ttl", ttl, "--secret-file", "key"];
    const { stdout } = await run(daemon(), command, { cwd: this.#directory });
    return stdout.trim();
  }

  /** In the hardest way. */
  async kill() {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }

  async stop() {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
