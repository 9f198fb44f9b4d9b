// Times, states and bodies in words.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const dayAndTime = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** @param {number} ms */
export const timeOfDay = (ms) => clock.format(ms);

/** @param {number} ms */
export const wholeMoment = (ms) => new Date(ms).toLocaleString();

/** @param {number} ms */
const dayOf = (ms) => new Date(ms).toDateString();

/** @param {number} ms */
export function dayName(ms) {
  if (dayOf(ms) === dayOf(Date.now())) return "Today";
  if (dayOf(ms) === dayOf(Date.now() - 86_400_000)) return "Yesterday";
  return day.format(ms);
}

/** @param {number} a @param {number} b */
export const isSameDay = (a, b) => dayOf(a) === dayOf(b);

/** @param {number} count @param {string} noun */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** @param {number} ms */
function seen(ms) {
  const minutes = Math.floor((Date.now() - ms) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  return isSameDay(ms, Date.now()) ? `at ${clock.format(ms)}` : dayAndTime.format(ms);
}

/** @param {{ state: string, text?: string, lastSeenMs?: number } | undefined} presence */
export function presenceText(presence) {
  if (presence === undefined) return "";
  const { state, text, lastSeenMs } = presence;
  if (state !== "offline") return text ? `${state}: ${text}` : state;
  return lastSeenMs ? `last seen ${seen(lastSeenMs)}` : "offline";
}

/**
 * What a body says, and whether it is text. Bodies may be anything: other programs speak over the router too.
 *
 * @param {any} body
 * @returns {{ text: string, isText: boolean }}
 */
export function said(body) {
  if (typeof body === "string") return { text: body, isText: true };
  if (typeof body?.text === "string") return { text: body.text, isText: true };
  return { text: JSON.stringify(body, null, 2) ?? "", isText: false };
}

/** Why a message was not sent. @type {Record<string, string>} */
export const FAILURES = {
  too_large: "it is too long",
  forbidden: "you may not write to them",
  bad_request: "the router could not use it",
  id_reused: "its id was used before",
  expired: "its time ran out",
  queue_full: "their queue is full",
  overloaded: "the router has too much to do",
  rate_limited: "too many messages at once",
  storage_unavailable: "the router's disk is full or failing",
  shutting_down: "the router is about to stop",
  unknown_outcome: "no answer came",
  timeout: "no answer came",
  closed: "the connection was closed",
};

/**
 * Why a name cannot be one; nothing when it can.
 *
 * @param {string} name
 */
export function nameProblem(name) {
  if (name === "") return "Please write a name.";
  if (/[\p{Cc}/]/u.test(name)) return "A name may hold no slash and no control characters.";
  if (new TextEncoder().encode(name).length > 128) return "That name is too long: 128 bytes at most.";
  return null;
}
