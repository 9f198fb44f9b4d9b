// Puts the dashboard together: one stream of events, one history, and a page by the address behind `#`.

import { api } from "./api.js";
import { Banners } from "./banners.js";
import { daemon } from "./daemon.js";
import { byId, h, setText } from "/shared/dom.js";
import { events } from "./events.js";
import { Feed } from "./feed.js";
import { duration } from "./format.js";
import { History } from "./history.js";
import { letters } from "./letters.js";
import { Live } from "./live.js";
import { overview } from "./overview.js";
import { queues } from "./queues.js";
import { sessions } from "./sessions.js";
import { user } from "./user.js";
import { users } from "./users.js";

/** @typedef {import("./context.js").Context} Context */
/** @typedef {import("./context.js").Route} Route */
/** @typedef {import("./context.js").Page} Page */

const HEALTH_MS = 5000;
const TOAST_MS = 8000;

/** @type {import("./api.js").Health | null} */
let health = null;

/** @type {Context} */
const context = {
  live: new Live(),
  history: new History(),
  feed: new Feed(),
  health: () => health,
  refreshHealth,
  announce,
};
const banners = new Banners(byId("banners"), context);

async function refreshHealth() {
  try {
    health = await api.health();
  } catch {
    // That the daemon cannot be reached is told by the stream.
    health = null;
  }
  banners.draw();
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let toastTimer;

/** @param {string} text */
function announce(text) {
  const toast = byId("toast");
  toast.textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (toast.textContent = ""), TOAST_MS);
}

/** @returns {Route} */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").map(decoded), query: new URLSearchParams(query) };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * @param {Route} where
 * @returns {Page}
 */
function pageAt(where) {
  const [first, second = ""] = where.path;
  if (first === "users") return second === "" ? users(context, where) : user(context, where);
  const pages = /** @type {Record<string, (context: Context, route: Route) => Page>} */ ({
    "": overview,
    queues,
    sessions,
    "dead-letters": letters,
    events,
    daemon,
  });
  return Object.hasOwn(pages, first) ? pages[first](context, where) : missing();
}

/** @returns {Page} */
function missing() {
  const element = h("div", {}, h("h1", { tabindex: "-1" }, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "To the overview")));
  return { title: "No such page", element, close: () => {} };
}

/** @type {Page | null} */
let page = null;

/** @param {boolean} isFirst */
function show(isFirst) {
  page?.close();
  const where = route();
  page = pageAt(where);
  document.title = `${page.title} · Doorstep`;
  byId("main").replaceChildren(page.element);
  for (const link of byId("nav").querySelectorAll("a")) {
    const isHere = link.hash.replace(/^#\/?/, "") === where.path[0];
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (isFirst) return;
  window.scrollTo(0, 0);
  // Where a page begins, so does who uses a keyboard or a screen reader.
  /** @type {HTMLElement | null} */ (page.element.querySelector("h1"))?.focus({ preventScroll: true });
}

/** Whether the daemon answers. @param {string} state */
const isThere = (state) => state === "live" || state === "asking";

function drawLink() {
  const { state } = context.live.state;
  const text = { connecting: "Connecting …", live: "Live", asking: "Asking", down: "Not connected" }[state];
  byId("link-state").dataset.state = state;
  setText(byId("link-text"), text);
  const stats = context.history.latest;
  setText(byId("version"), stats === null ? "" : stats.version);
  byId("version").title = stats === null ? "" : `running for ${duration(stats.uptime_ms)}`;
}

context.live.onState(({ state }) => {
  drawLink();
  banners.draw();
  if (isThere(state)) void refreshHealth();
});
context.live.onEvent((event) => {
  if (event.type === "stats") {
    context.history.add(event.data);
    drawLink();
  } else {
    context.feed.add(event);
  }
});
window.addEventListener("hashchange", () => show(false));
byId("skip").addEventListener("click", (event) => {
  // The address behind `#` is the page's, so the link may not change it.
  event.preventDefault();
  byId("main").focus();
});
setInterval(() => banners.draw(), 1000);
setInterval(() => isThere(context.live.state.state) && void refreshHealth(), HEALTH_MS);

show(true);
void context.live.run();
