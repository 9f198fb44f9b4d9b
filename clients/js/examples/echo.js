// Sends back whatever it is sent: node examples/echo.js [url] [user]
//
// What it was sent while it was away is answered when it comes back, and nothing twice: the id of an answer is made of
// the question's place in the inbox, so that the router knows a repeat, and every answer is marked as one, because a
// handler that failed half-way is called again.

import process from "node:process";

import { Client } from "doorstep-client";
import { WebSocket } from "ws";

const [url = "ws://127.0.0.1:7400/v1/connect", user = "echo"] = process.argv.slice(2);

const client = new Client({
  url,
  user,
  device: "example",
  WebSocket,
  onMessage: async ({ seq, from, body }) => {
    await client.send(from, { echo: body }, { id: `echo:${seq}`, retry: true });
  },
});
client.on("state", ({ state }) => console.log(state));
client.on("closed", ({ message }) => console.log(message));
process.once("SIGINT", () => client.close());
process.once("SIGTERM", () => client.close());
await client.start();
