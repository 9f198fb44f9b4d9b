// Says what came to those who listen to the page. The list of messages itself is not live: a change of conversation
// would be read out from its first word.

import { byId } from "/shared/dom.js";
import { counted } from "./words.js";

const TOGETHER_MS = 600;
const CHARS = 200;
const SINGLE_MAX = 2;

/** @type {Map<string, string[]>} */
const waiting = new Map();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** @param {string} from @param {string} text */
export function announce(from, text) {
  waiting.set(from, [...(waiting.get(from) ?? []), text.slice(0, CHARS)]);
  timer ??= setTimeout(speak, TOGETHER_MS);
}

function speak() {
  timer = undefined;
  const sentences = [...waiting].map(([from, texts]) =>
    texts.length <= SINGLE_MAX ? texts.map((text) => `${from}: ${text}`).join(". ") : `${counted(texts.length, "new message")} from ${from}`,
  );
  waiting.clear();
  byId("announcer").textContent = sentences.join(". ");
}
