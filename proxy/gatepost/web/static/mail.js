// The list that follows the store by itself, the message beside it, and the keyboard.
"use strict";

const list = document.getElementById("list");
const reader = document.getElementById("reader");
const search = document.getElementById("search");
const rows = () => [...list.querySelectorAll(".row")];
const rowOf = (id) => document.getElementById(`m-${id}`);
const openId = () => reader.querySelector(".message")?.dataset.id;
const isPhone = () => matchMedia("(max-width: 720px)").matches;

/* Opening and closing. The list's address comes first in the history, so Back leads there. */

async function open(id, href, { remember = true } = {}) {
  const wasOpen = openId();
  await htmx.ajax("GET", href, { target: "#reader", swap: "innerHTML" });
  if (openId() !== id) return;
  reader.scrollTop = 0;
  if (remember) history[wasOpen ? "replaceState" : "pushState"]({ reading: true }, "", href);
}

function close({ remember = true } = {}) {
  const id = openId();
  const home = reader.querySelector(".message")?.dataset.home || document.body.dataset.home;
  reader.replaceChildren();
  shown();
  if (!remember) return;
  history.replaceState({}, "", home);
  rowOf(id)?.querySelector(".row-link").focus({ preventScroll: true });
}

/** Marks the row of the open message, and names it in the title. */
function shown() {
  const message = reader.querySelector(".message");
  for (const row of list.querySelectorAll("[data-open]")) delete row.dataset.open;
  const row = message && rowOf(message.dataset.id);
  if (row) {
    row.dataset.open = "";
    row.classList.remove("is-unread");
    row.scrollIntoView({ block: "nearest" });
  }
  const tabs = reader.querySelector(".tabs");
  const tab = tabs?.querySelector("[aria-current]");
  if (tab) tabs.scrollLeft = tab.offsetLeft - (tabs.clientWidth - tab.offsetWidth) / 2;
  const count = document.title.match(/^\(\d+\) /)?.[0] || "";
  document.title = count + (message ? message.dataset.title : document.body.dataset.title);
}

addEventListener("popstate", () => {
  const found = location.pathname.match(/^\/messages\/([0-9a-z]+)$/);
  if (found) open(found[1], location.pathname + location.search, { remember: false });
  else if (openId()) close({ remember: false });
  else location.reload();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.row-link");
  const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
  if (link && plain) {
    event.preventDefault();
    open(link.closest(".row").dataset.id, link.getAttribute("href"));
    return;
  }
  const actor = event.target.closest("[data-do], [data-search]");
  if (!actor) return;
  if (actor.dataset.search) {
    search.value = `${search.value} ${actor.dataset.search}`.trim();
    document.getElementById("search-help").hidePopover();
    search.focus();
    search.dispatchEvent(new Event("input", { bubbles: true }));
    return;
  }
  switch (actor.dataset.do) {
    case "close":
      if (plain) {
        event.preventDefault();
        close();
      }
      break;
    case "select-all":
      for (const box of list.querySelectorAll(".row input")) box.checked = actor.checked;
      selected();
      break;
    case "release":
      document.getElementById("release").showModal();
      break;
    case "above":
      list.scrollTop = 0;
      refresh();
      break;
    case "close-dialog":
      actor.closest("dialog").close();
      break;
    case "images":
      actor.closest(".images").hidden = true;
      break;
    case "width":
      for (const button of actor.parentElement.children) button.setAttribute("aria-pressed", button === actor);
      reader.querySelector("iframe").classList.toggle("is-phone", actor.value === "phone");
      break;
  }
});

/* Selecting */

let lastBox = null;
list.addEventListener("click", (event) => {
  const box = event.target.closest(".row input");
  if (!box) return;
  if (event.shiftKey && lastBox?.isConnected) {
    const boxes = [...list.querySelectorAll(".row input")];
    const [from, to] = [boxes.indexOf(lastBox), boxes.indexOf(box)].sort((a, b) => a - b);
    for (const between of boxes.slice(from, to + 1)) between.checked = box.checked;
  }
  lastBox = box;
  selected();
});

function selected() {
  const number = list.querySelectorAll(".row input:checked").length;
  const all = list.querySelector("[data-do=select-all]");
  if (!all) return;
  list.querySelector("[data-selected]").textContent = number;
  const question = `Delete ${number} ${number === 1 ? "message" : "messages"} for good?`;
  list.querySelector("[value=delete]").setAttribute("hx-confirm", question);
  all.checked = number > 0 && number === rows().length;
  all.indeterminate = number > 0 && !all.checked;
}

/* Following the store: the first page is asked for again, and rows are put in, changed and taken out in their
   places, so that scrolling, selection and focus stay. One question at a time, and at most two a second. Where
   somebody has scrolled down nothing moves: a button says that there is more above. */

let asking = false;
let again = false;

async function refresh() {
  const tools = list.querySelector(".list-tools");
  const url = tools?.dataset.rows || listUrl();
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const answer = await fetch(url, { headers: { "HX-Request": "true" } });
    if (answer.status === 401) location.assign("/login");
    if (answer.ok && url === (list.querySelector(".list-tools")?.dataset.rows || listUrl())) merge(await answer.text());
  } catch {
    // The next event asks again; htmx tells where nobody answers a click.
  }
  setTimeout(() => {
    asking = false;
    if (again) {
      again = false;
      refresh();
    }
  }, 400);
}

function listUrl() {
  const pairs = new URLSearchParams({ in: document.querySelector("#selection [name=in]").value });
  if (search?.value.trim()) pairs.set("q", search.value.trim());
  return `/messages/list?${pairs}`;
}

function merge(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const fresh = [...page.querySelectorAll(".row")];
  if (!fresh.length || !list.querySelector(".row")) {
    list.replaceChildren(...page.body.childNodes);
    htmx.process(list);
  } else {
    mergeRows(fresh, page);
  }
  desk.times(list);
  selected();
  shown();
}

function mergeRows(fresh, page) {
  const scrolled = list.scrollTop > 200;
  const ids = new Set(fresh.map((row) => row.id));
  const last = fresh.at(-1).dataset.id;
  for (const row of rows()) {
    // Ids sort by time: what is newer than the last of the page and not on it is gone.
    const gone = !ids.has(row.id) && (row.dataset.id > last || !page.querySelector(".more-rows"));
    const held = "open" in row.dataset || row.querySelector("input:checked");
    if (gone || (!ids.has(row.id) && !scrolled && !held)) row.remove();
  }
  const box = document.getElementById("rows");
  let place = box.firstElementChild;
  let above = 0;
  for (const row of fresh) {
    const old = document.getElementById(row.id);
    if (old) {
      update(old, row);
      place = old.nextElementSibling;
    } else if (scrolled) {
      above += 1;
    } else {
      row.classList.add("is-new");
      box.insertBefore(document.adoptNode(row), place);
    }
  }
  list.querySelector(".above").hidden = !above;
  if (!scrolled) {
    box.querySelector(".more-rows")?.remove();
    box.append(...page.querySelectorAll(".more-rows"));
    htmx.process(box);
  }
  const [tools, told] = [list.querySelector(".list-tools"), page.querySelector(".list-tools")];
  tools.querySelector(".when-none").textContent = told.querySelector(".when-none").textContent;
  const [all, allTold] = [tools, told].map((one) => one.querySelector("[hx-post='/messages/delete-all']"));
  if (all && allTold) all.setAttribute("hx-confirm", allTold.getAttribute("hx-confirm"));
}

function update(old, row) {
  old.classList.toggle("is-unread", row.classList.contains("is-unread"));
  for (const part of [".what", ".marks"]) {
    const [shown, fresh] = [old, row].map((one) => one.querySelector(part));
    if (shown.innerHTML !== fresh.innerHTML) shown.replaceChildren(...fresh.childNodes);
  }
}

document.addEventListener("desk:change", refresh);

document.addEventListener("desk:changed", (event) => {
  const { deleted, all_deleted: all, changed = [] } = event.detail;
  for (const box of list.querySelectorAll(".row input:checked")) box.checked = false;
  selected();
  const id = openId();
  if (id && (all || deleted?.includes(id))) {
    const next = following(id, deleted || []);
    if (next && !isPhone() && deleted.length === 1) next.querySelector(".row-link").click();
    else close();
  } else if (id && changed.includes(id) && !deleted) {
    close(); // marked as unread: to look at it would mark it as read again
  }
  for (const gone of deleted || []) rowOf(gone)?.remove();
  refresh();
});

function following(id, gone) {
  const all = rows();
  const place = all.findIndex((row) => row.dataset.id === id);
  const left = (row) => !gone.includes(row.dataset.id);
  return all.slice(place + 1).find(left) || all.slice(0, Math.max(place, 0)).findLast(left);
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target === reader) shown();
  if (event.detail.requestConfig?.path.includes("before=")) {
    // Rows that were kept because they are selected come again with the older ones.
    const first = new Map();
    for (const row of rows()) first.has(row.id) ? row.remove() : first.set(row.id, row);
  }
  if (event.target === list) {
    selected();
    shown();
    if (!openId()) {
      const query = search.value.trim();
      const home = location.pathname.startsWith("/quarantine") ? location.pathname : "/";
      const url = query ? `${home}?${new URLSearchParams({ q: query })}` : home;
      history.replaceState({}, "", url);
      document.body.dataset.home = url;
    }
  }
});

document.addEventListener("htmx:configRequest", (event) => {
  // The buttons of the open message mean that message, those of the list the ones that are selected.
  if (event.detail.path === "/messages/change") event.detail.parameters.set("do", event.detail.elt.value);
});

shown();

/* Keyboard */

function step(by) {
  const all = rows();
  if (!all.length) return;
  const focused = document.activeElement?.closest?.(".row");
  const at = openId() ? all.indexOf(rowOf(openId())) : all.indexOf(focused);
  const row = all[Math.min(Math.max(at + by, 0), all.length - 1)];
  const link = row.querySelector(".row-link");
  link.focus();
  if (openId() && row.dataset.id !== openId()) link.click();
}

function current() {
  return rowOf(openId()) || document.activeElement?.closest?.(".row");
}

function act(name) {
  if (list.querySelector(".row input:checked")) {
    list.querySelector(`.list-tools [value=${name}]`).click();
  } else if (openId()) {
    reader.querySelector(`.message-tools [value=${name}]`)?.click();
  } else if (current()?.querySelector("input")) {
    current().querySelector("input").checked = true;
    selected();
    list.querySelector(`.list-tools [value=${name}]`).click();
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (event.target === search) search.blur();
    else if (openId()) close();
    return;
  }
  if (desk.typing(event.target)) return;
  const tabs = reader.querySelectorAll(".tabs a");
  switch (event.key) {
    case "j":
    case "k":
      step(event.key === "j" ? 1 : -1);
      break;
    case "x":
      current()?.querySelector("input")?.click();
      break;
    case "u":
      act("unseen");
      break;
    case "#":
      act("delete");
      break;
    case "/":
      search?.focus();
      search?.select();
      break;
    default:
      if (!/^[1-9]$/.test(event.key) || !tabs[event.key - 1]) return;
      tabs[event.key - 1].click();
  }
  event.preventDefault();
});
