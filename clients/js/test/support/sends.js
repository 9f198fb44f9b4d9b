// What tests of sends have in common: a send and its frame, and what the router answers.

import { outcome, turn } from "./fake.js";

export const bodies = (socket) => socket.take("send").map(({ body }) => body);

export function answer(socket, { id, to }, fields = {}) {
  socket.say({ type: "accepted", id, to, seq: 7, stored: true, ...fields });
}

export function reject(socket, { id, to }, code, fields = {}) {
  socket.say({ type: "rejected", id, to, code, reason: "because", ...fields });
}

export async function sent(bench, to, body, options) {
  const result = outcome(bench.client.send(to, body, options));
  await turn();
  const frames = bench.socket.take("send");
  return { result, frame: frames.at(-1) };
}
