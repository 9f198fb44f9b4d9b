// Measures of text.

/**
 * How many bytes `text` has in UTF-8. Halves of surrogate pairs count as the replacement character that they become.
 *
 * @param {string} text
 */
export function utf8Length(text) {
  let bytes = text.length;
  for (let place = 0; place < text.length; place += 1) {
    const unit = text.charCodeAt(place);
    if (unit < 0x80) continue;
    if (unit < 0x800) bytes += 1;
    else if (isPairAt(text, place, unit)) {
      // Two units, four bytes.
      bytes += 2;
      place += 1;
    } else bytes += 2;
  }
  return bytes;
}

/**
 * @param {string} text
 * @param {number} place
 * @param {number} unit what is there
 */
function isPairAt(text, place, unit) {
  if (unit < 0xd800 || unit > 0xdbff) return false;
  const next = text.charCodeAt(place + 1);
  return next >= 0xdc00 && next <= 0xdfff;
}

/**
 * Whether a JSON text nests deeper than `levels`.
 *
 * @param {string} json
 * @param {number} levels
 */
export function nestsDeeperThan(json, levels) {
  let depth = 0;
  let inString = false;
  for (let place = 0; place < json.length; place += 1) {
    const unit = json.charCodeAt(place);
    if (inString) {
      if (unit === 0x5c) place += 1;
      else if (unit === 0x22) inString = false;
    } else if (unit === 0x22) inString = true;
    else if (unit === 0x7b || unit === 0x5b) {
      depth += 1;
      if (depth > levels) return true;
    } else if (unit === 0x7d || unit === 0x5d) depth -= 1;
  }
  return false;
}
