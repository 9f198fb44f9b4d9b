// Puts the chat together: the entrance, the list of people, the conversation that the address names.

import { announce } from "./announcer.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { ConnectionView } from "./connection.js";
import { byId, setText } from "/shared/dom.js";
import { addressOf, People } from "./people.js";
import { Thread } from "./thread.js";
import { counted, nameProblem, presenceText, said } from "./words.js";
import { You } from "./you.js";

/** In the storage of the tab, so that two tabs can be two people. */
const NAME_KEY = "doorstep-chat.name";
const NOTE_MS = 10_000;
const READ_MS = 200;
const DRAW_MS = 50;

const name = sessionStorage.getItem(NAME_KEY);
if (name === null) showEntrance("");
else await enter(name);

/** @param {string} problem */
function showEntrance(problem) {
  byId("entrance").hidden = false;
  byId("name-error").textContent = problem;
  const field = /** @type {HTMLInputElement} */ (byId("name"));
  field.focus();
  byId("name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = field.value.trim();
    const wrong = nameProblem(chosen);
    byId("name-error").textContent = wrong ?? "";
    field.setAttribute("aria-invalid", String(wrong !== null));
    if (wrong !== null) return field.focus();
    sessionStorage.setItem(NAME_KEY, chosen);
    location.reload();
  });
}

/** @param {string} me */
async function enter(me) {
  let peer = "";
  byId("app").hidden = false;
  setText(byId("me-name"), me);

  const you = new You({
    me,
    save: async (state, text) => {
      await chat.setStatus(state, text);
      drawSoon();
    },
    leave: async () => {
      await chat.close();
      sessionStorage.removeItem(NAME_KEY);
      location.hash = "";
      location.reload();
    },
  });
  const connection = new ConnectionView(() => void chat.restart());

  const chat = await Chat.open(me, you.status, {
    entry(entry, isNew, isFromHere) {
      if (entry.peer === peer) thread.take(entry, isNew, isFromHere);
      if (!isNew || entry.way === "out") return;
      announce(entry.peer, said(entry.body).text);
      readSoon();
    },
    people: () => drawSoon(),
    connection(now) {
      connection.update(now);
      drawSoon();
    },
    caughtUp({ messages, people: senders }) {
      byId("waited").hidden = false;
      setText(byId("waited"), `While you were away: ${counted(messages, "message")} from ${senders === 1 ? "one person" : `${senders} people`}.`);
    },
    note,
  }).catch((error) => {
    console.error(error);
    note("This browser lets the page keep nothing (a private window, perhaps). Without that no message would be safe, so the chat does not begin.");
    throw error;
  });

  const people = new People(
    () => chat.people.values(),
    (person) => (chat.connection.state === "online" ? chat.presence(person) : undefined),
    () => peer,
  );
  const thread = new Thread({
    page: (with_, most, before) => chat.archive.page(with_, most, before),
    again: (entry) => void chat.again(entry),
    sawAll: () => readSoon(),
  });
  const composer = new Composer({
    send: (to, text) => chat.send(to, text),
    typing: (to, isTyping) => chat.typing(to, isTyping),
    maxBytes: () => chat.bodyMaxBytes,
  });

  let isDue = false;

  /** All but the messages; for many changes once. */
  function drawSoon() {
    if (!isDue) setTimeout(draw, DRAW_MS);
    isDue = true;
  }

  function draw() {
    isDue = false;
    people.draw();
    drawPeer();
    drawTitle();
  }

  function drawPeer() {
    const isOnline = chat.connection.state === "online";
    you.draw(chat.presence(me), isOnline);
    if (peer === "") return;
    const presence = isOnline ? chat.presence(peer) : undefined;
    byId("peer-mark").dataset.state = presence?.state ?? "offline";
    setText(byId("peer-status"), isOnline ? presenceText(presence) : "not known at the moment");
    const isTyping = (chat.people.get(peer)?.typingUntilMs ?? 0) > Date.now();
    setText(byId("typing"), isTyping ? `${peer} is typing …` : "");
  }

  function drawTitle() {
    let unread = 0;
    for (const person of chat.people.values()) unread += person.unread;
    const title = `${unread > 0 ? `(${unread}) ` : ""}${peer === "" ? "" : `${peer} · `}Doorstep chat`;
    if (document.title !== title) document.title = title;
  }

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let readTimer;

  /** What is on the screen counts as read; many messages are told as one. */
  function readSoon() {
    readTimer ??= setTimeout(() => {
      readTimer = undefined;
      if (peer !== "" && document.visibilityState === "visible" && thread.isAtNewest) void chat.read(peer);
    }, READ_MS);
  }

  /** @param {boolean} isFirst */
  async function go(isFirst) {
    const before = peer;
    const asked = nameIn(location.hash);
    peer = nameProblem(asked) === null ? asked : "";
    document.body.classList.toggle("is-talking", peer !== "");
    byId("conversation").hidden = peer === "";
    byId("nobody").hidden = peer !== "";
    if (peer !== "") {
      await chat.addPerson(peer);
      setText(byId("peer-name"), peer);
      byId("waited").hidden = true;
      composer.open(peer);
      await thread.open(peer);
    }
    draw();
    if (peer !== "") composer.focus();
    else if (!isFirst) people.focus(before);
  }

  byId("back").addEventListener("click", () => (location.hash = "#/"));
  byId("add-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (byId("add-name"));
    const added = field.value.trim();
    const wrong = nameProblem(added);
    byId("add-error").textContent = wrong ?? "";
    if (wrong !== null) return field.focus();
    field.value = "";
    if (location.hash === addressOf(added)) composer.focus();
    location.hash = addressOf(added);
  });
  const removing = /** @type {HTMLDialogElement} */ (byId("removing"));
  byId("remove").addEventListener("click", () => {
    setText(byId("removing-title"), `Remove ${peer} from the list?`);
    setText(byId("removing-says"), `The messages between you and ${peer} that are kept in this browser are deleted. ${peer} keeps theirs, and can write to you as before.`);
    removing.showModal();
  });
  byId("removing-no").addEventListener("click", () => removing.close());
  byId("removing-yes").addEventListener("click", async () => {
    removing.close();
    const gone = peer;
    location.hash = "#/";
    await chat.removePerson(gone);
  });
  window.addEventListener("hashchange", () => void go(false));
  document.addEventListener("visibilitychange", readSoon);
  // "last seen 2 min ago" grows old by itself.
  setInterval(drawSoon, 30_000);

  connection.update(chat.connection);
  await go(true);
  await chat.start();
}

/** @param {string} hash */
function nameIn(hash) {
  try {
    return decodeURIComponent(hash.replace(/^#\/?/, ""));
  } catch {
    return "";
  }
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let noteTimer;

/** @param {string} text */
function note(text) {
  byId("note").textContent = text;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => (byId("note").textContent = ""), NOTE_MS);
}
