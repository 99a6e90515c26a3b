// What every page of the desk does: theme, help, questions before a change, notices, counts.
"use strict";

const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const desk = {
  /** The path under which a proxy serves the desk; empty without one. */
  base: document.body.dataset.base,

  /** Fields of requests that no person has made: they do not keep the session. */
  byItself: { "HX-Request": "true", "Desk-Refresh": "yes" },

  /** Say something for some seconds; returns the element. */
  notice(text, bad = false, seconds = bad ? 8 : 4) {
    const box = document.createElement("div");
    box.className = bad ? "notice is-bad" : "notice";
    box.append(Object.assign(document.createElement("span"), { textContent: text }));
    document.getElementById("notices").append(box);
    setTimeout(() => box.remove(), seconds * 1000);
    return box;
  },

  /** Times relative to now, and absolute ones in the reader's own time. */
  times(root = document) {
    for (const time of root.querySelectorAll("time[data-ago]")) {
      const then = new Date(time.dateTime);
      time.textContent = desk.ago(then);
      if (!time.dataset.ago) time.title = moments.format(then);
      time.dataset.ago = "shown";
    }
    for (const time of root.querySelectorAll("time[data-local]")) {
      const then = new Date(time.dateTime);
      time.textContent = moments.format(then);
      time.title = time.dateTime;
    }
    for (const time of root.querySelectorAll("time[data-clock]")) {
      time.textContent = desk.clock(new Date(time.dateTime));
      time.title = time.dateTime;
    }
  },

  /** The time of day with milliseconds. */
  clock(then) {
    const part = (number, digits = 2) => String(number).padStart(digits, "0");
    const seconds = `${part(then.getSeconds())}.${part(then.getMilliseconds(), 3)}`;
    return `${part(then.getHours())}:${part(then.getMinutes())}:${seconds}`;
  },

  ago(then) {
    const seconds = (Date.now() - then) / 1000;
    if (seconds < 45) return "now";
    if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min`;
    if (seconds < 86400) return `${Math.round(seconds / 3600)} h`;
    if (seconds < 7 * 86400) return `${Math.round(seconds / 86400)} d`;
    return then.toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
  },

  /** The counts in the navigation and in the title. */
  counts(state) {
    for (const place of document.querySelectorAll("[data-count]")) {
      const number = state[place.dataset.count];
      place.hidden = !number;
      if (number) place.closest("a").hidden = false; // a page that was not expected to have anything
      place.textContent = number > 9999 ? "9999+" : number;
    }
    const title = document.title.replace(/^\(\d+\) /, "");
    document.title = state.unread ? `(${state.unread}) ${title}` : title;
  },

  /** True while somebody types into a field. */
  typing(target) {
    return target.closest("textarea, select, [contenteditable], input:not([type=checkbox], [type=radio])");
  },
};

/* Changes of the store. One tab of a browser listens for all: a browser opens only six connections to a server.
   Where nothing is heard, not even the sign of life that comes every 15 s, all tabs say so, and it is tried again;
   the first thing that a new connection tells is the state of the store, so that every list is asked for again. */

const QUIET_MS = 40_000;
const RETRY_MS = 1000;
const ANSWER_MS = 5000;
const LOST_MS = 1500; // a desk that is only restarted is back before
const events = `${desk.base}/events`;
const channel = new BroadcastChannel(`gatepost-changes${desk.base}`);

const hear = ({ state, lost }) => {
  if (lost !== undefined) showLost(lost);
  if (!state) return;
  desk.counts(state);
  document.dispatchEvent(new CustomEvent("desk:change", { detail: state }));
};
const tell = (told) => {
  hear(told);
  channel.postMessage(told);
};
channel.addEventListener("message", (event) => hear(event.data));

/** Say why the page is not up to date; empty: it is again. */
function showLost(why) {
  const place = document.getElementById("lost");
  if (place.textContent === why) return;
  if (!why) desk.notice("Connected again, and up to date.");
  place.textContent = why;
  place.hidden = !why;
}

let lostAt = null;
function connect() {
  const source = new EventSource(events);
  const patience = lostAt === null ? QUIET_MS : ANSWER_MS;
  let quiet = setTimeout(lose, patience);
  function heard(state) {
    clearTimeout(quiet);
    quiet = setTimeout(lose, QUIET_MS);
    lostAt = null;
    tell({ state, lost: "" });
  }
  function lose(event) {
    clearTimeout(quiet);
    source.close();
    lostAt ??= Date.now();
    if (!event || Date.now() - lostAt >= LOST_MS) sayWhy();
    setTimeout(connect, RETRY_MS);
  }
  source.addEventListener("open", () => heard());
  source.addEventListener("alive", () => heard());
  source.addEventListener("change", (event) => heard(JSON.parse(event.data)));
  source.addEventListener("error", lose);
}

async function sayWhy() {
  const answer = await fetch(events, { method: "HEAD", signal: AbortSignal.timeout(ANSWER_MS) }).catch(() => null);
  if (lostAt === null) return; // connected meanwhile
  if (answer?.status === 401) location.assign(`${desk.base}/login`);
  const refused = answer?.headers.has("Retry-After") ? "The store does not answer." : "Too many pages watch Gatepost.";
  const why = answer?.status === 503 ? refused : "Gatepost does not answer.";
  tell({ lost: `${why} This page is not up to date. Trying again …` });
}

const listen = () => new Promise(connect);
if (navigator.locks) navigator.locks.request(`gatepost-changes${desk.base}`, listen);
else listen();

document.addEventListener("click", (event) => {
  const act = event.target.closest("[data-do]")?.dataset.do;
  if (act === "theme") {
    const root = document.documentElement;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    document.cookie = `gatepost-theme=${root.dataset.theme}; path=${desk.base || "/"}; max-age=31536000; samesite=strict`;
  } else if (act === "help") {
    document.getElementById("help").showModal();
  } else if (act === "close-dialog") {
    event.target.closest("dialog").close();
  }
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !desk.typing(event.target)) document.getElementById("help").showModal();
});

// A change asks first, in a dialog of ours.
let asked = null;
document.addEventListener("htmx:confirm", (event) => {
  if (!event.detail.question) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = event.detail.question;
  dialog.querySelector("[data-confirm-label]").textContent = event.detail.elt.dataset.confirm || "Delete";
  dialog.returnValue = "";
  asked = event.detail;
  dialog.showModal();
});
document.getElementById("confirm").addEventListener("close", (event) => {
  if (event.target.open) return; // it was asked again before it could tell that it had closed
  if (event.target.returnValue === "yes") asked?.issueRequest(true);
  asked = null;
});
document.addEventListener("desk:notice", (event) => desk.notice(event.detail.text, event.detail.bad));
document.addEventListener("htmx:sendError", () => desk.notice("Gatepost does not answer. Is it running?", true));
document.addEventListener("htmx:responseError", (event) => {
  desk.notice(`This did not work: ${event.detail.xhr.status} ${event.detail.xhr.statusText}`, true);
});
document.addEventListener("htmx:afterSwap", (event) => desk.times(event.target));

desk.times();
setInterval(() => desk.times(), 30000);
