// Reads an answer of the API without touching the bodies of messages in it. The router relays bodies byte for byte, and
// an operator who looks at one must see those bytes: `JSON.parse` would round long numbers and drop a key that comes twice.

/**
 * As `JSON.parse`, but each `"body"` becomes a string with the text of its value.
 *
 * @param {string} text well-formed JSON
 * @returns {unknown}
 */
export function parseKeepingBodies(text) {
  let kept = "";
  let copied = 0;
  let at = 0;
  while (at < text.length) {
    if (text[at] !== '"') {
      at += 1;
      continue;
    }
    const end = endOfString(text, at);
    const colon = skipSpace(text, end);
    if (text[colon] === ":" && text.slice(at, end) === '"body"') {
      const start = skipSpace(text, colon + 1);
      at = endOfValue(text, start);
      kept += text.slice(copied, start) + JSON.stringify(text.slice(start, at));
      copied = at;
    } else {
      at = end;
    }
  }
  return JSON.parse(kept + text.slice(copied));
}

/**
 * @param {string} text
 * @param {number} at the opening quote
 */
function endOfString(text, at) {
  at += 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

/**
 * @param {string} text
 * @param {number} at
 */
function skipSpace(text, at) {
  while (at < text.length && " \t\r\n".includes(text[at])) at += 1;
  return at;
}

/**
 * @param {string} text
 * @param {number} at its first character
 */
function endOfValue(text, at) {
  if (text[at] === '"') return endOfString(text, at);
  if (text[at] !== "{" && text[at] !== "[") {
    while (at < text.length && !",]} \t\r\n".includes(text[at])) at += 1;
    return at;
  }
  let depth = 0;
  do {
    if (text[at] === '"') {
      at = endOfString(text, at);
      continue;
    }
    if (text[at] === "{" || text[at] === "[") depth += 1;
    if (text[at] === "}" || text[at] === "]") depth -= 1;
    at += 1;
  } while (depth > 0 && at < text.length);
  return at;
}
