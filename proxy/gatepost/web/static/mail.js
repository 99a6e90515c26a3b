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

/** The address of a message with the tab that was chosen in the open one; the address remembers it. */
function withTab(href) {
  const tab = openId() && new URLSearchParams(location.search).get("tab");
  const url = new URL(href, location.href);
  if (tab) url.searchParams.set("tab", tab);
  return url.pathname + url.search;
}

async function open(id, href, { remember = true } = {}) {
  const wasOpen = openId();
  if (remember) href = withTab(href);
  await htmx.ajax("GET", href, { target: "#reader", swap: "innerHTML" });
  if (openId() !== id) return;
  reader.scrollTop = 0;
  if (remember) history[wasOpen ? "replaceState" : "pushState"]({ reading: true }, "", href);
}

function close({ remember = true } = {}) {
  const id = openId();
  reader.replaceChildren();
  shown();
  if (!remember) return;
  history.replaceState({}, "", document.body.dataset.home);
  rowOf(id)?.querySelector(".row-link").focus({ preventScroll: true });
}

/** Marks the row of the open message, and names it in the title. */
function shown() {
  const message = reader.querySelector(".message");
  showTab(reader.querySelector(".tabs"));
  for (const row of list.querySelectorAll("[data-open]")) delete row.dataset.open;
  const row = message && rowOf(message.dataset.id);
  if (row) {
    row.dataset.open = "";
    row.classList.remove("is-unread");
    row.scrollIntoView({ block: "nearest" });
  }
  const count = document.title.match(/^\(\d+\) /)?.[0] || "";
  document.title = count + (message ? message.dataset.title : document.body.dataset.title);
}

/** On a phone the tabs are one row that scrolls: the open one is in sight. */
function showTab(tabs) {
  const tab = tabs?.querySelector("[aria-current]");
  if (!tab) return;
  const [inside, around] = [tab.getBoundingClientRect(), tabs.getBoundingClientRect()];
  tabs.scrollLeft += inside.left - around.left - (around.width - inside.width) / 2;
}

addEventListener("popstate", () => {
  const found = location.pathname.slice(desk.base.length).match(/^\/messages\/([0-9a-z]+)$/);
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
  if (actor.matches("a[data-search]")) {
    if (plain && search) {
      event.preventDefault();
      searchFor(actor.dataset.search);
    }
    return;
  }
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
    case "forward":
      document.getElementById(actor.dataset.do).showModal();
      break;
    case "above":
      list.scrollTop = 0;
      refresh();
      break;
    case "copy":
      copy(actor);
      break;
  }
});

/** Show what a click on an address or on a value asks for; where the list is not in sight it takes the place. */
function searchFor(text) {
  search.value = text;
  if (facets.matches(":popover-open")) facets.hidePopover();
  if (isPhone() && openId()) close();
  htmx.trigger(search.form, "submit");
}

/* What the list can be narrowed to, counted again while it is in sight, at most every two seconds. */

const facets = document.getElementById("facets");
let counting = false;
let countAgain = false;

async function count() {
  if (!facets?.checkVisibility()) return;
  if (counting) {
    countAgain = true;
    return;
  }
  counting = true;
  const pairs = new URLSearchParams({ in: facets.dataset.in, q: search.value.trim() });
  try {
    const answer = await fetch(`${desk.base}/messages/facets?${pairs}`, { headers: desk.byItself });
    if (answer.ok) showFacets(await answer.text());
  } catch {
    // The next event counts again.
  }
  setTimeout(() => {
    counting = false;
    if (countAgain) {
      countAgain = false;
      count();
    }
  }, 2000);
}

function showFacets(html) {
  const opened = [...facets.querySelectorAll("details[open]")].map((one) => one.dataset.more);
  const term = facets.contains(document.activeElement) && document.activeElement.dataset.term;
  facets.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  for (const more of facets.querySelectorAll("details")) more.open = opened.includes(more.dataset.more);
  if (term) [...facets.querySelectorAll("a")].find((link) => link.dataset.term === term)?.focus();
}

if (facets) new IntersectionObserver(count).observe(facets);

/** Copies a code. Browsers give the clipboard to secure pages only; elsewhere the code on the page is selected. */
async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.value);
  } catch {
    getSelection().selectAllChildren(button.parentElement.querySelector("[data-code]"));
    if (!document.execCommand("copy")) {
      desk.notice("The browser does not allow it. The code is selected: copy it with Ctrl+C.", true);
      return;
    }
  }
  desk.notice(`Copied ${button.value}`);
}

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
  const button = list.querySelector("[value=delete]");
  if (number > 1) button.setAttribute("hx-confirm", `Delete ${number} messages permanently?`);
  else button.removeAttribute("hx-confirm"); // it can be undone
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
    const answer = await fetch(url, { headers: desk.byItself });
    if (answer.status === 401) location.assign(`${desk.base}/login`);
    if (!answer.ok) setTimeout(refresh, 2000);
    const html = answer.ok && (await answer.text());
    // A search may have taken the place of this list meanwhile.
    if (html && url === (list.querySelector(".list-tools")?.dataset.rows || listUrl())) merge(html);
  } catch {
    // The page says that nobody answers, and the first event of a new connection asks again.
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
  return `${desk.base}/messages/list?${pairs}`;
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
  const focused = document.activeElement?.closest(".row");
  const ids = new Set(fresh.map((row) => row.id));
  const last = fresh.at(-1).dataset.id;
  const newest = list.querySelector(".row").dataset.id;
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
    } else if (scrolled && row.dataset.id > newest) {
      above += 1;
    } else {
      row.classList.add("is-new");
      box.insertBefore(document.adoptNode(row), place);
    }
  }
  if (focused && !focused.isConnected) {
    following(focused.dataset.id, [])?.querySelector(".row-link").focus({ preventScroll: true });
  }
  list.querySelector(".above").hidden = !above;
  if (!scrolled) {
    box.querySelector(".more-rows")?.remove();
    box.append(...page.querySelectorAll(".more-rows"));
    htmx.process(box);
  }
  const [tools, told] = [list.querySelector(".list-tools"), page.querySelector(".list-tools")];
  tools.querySelector(".when-none").textContent = told.querySelector(".when-none").textContent;
  const [all, allTold] = [tools, told].map((one) => one.querySelector("[hx-post$='/messages/delete-all']"));
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
document.addEventListener("desk:change", count);

document.addEventListener("desk:changed", (event) => {
  const { deleted, all_deleted: all, changed = [], undo } = event.detail;
  for (const box of list.querySelectorAll(".row input:checked")) box.checked = false;
  selected();
  const id = openId();
  if (undo) offerUndo(deleted[0], undo);
  if (id && (all || deleted?.includes(id))) {
    const next = following(id, deleted || []);
    if (next && !isPhone() && deleted.length === 1) next.querySelector(".row-link").click();
    else close();
  } else if (id && changed.includes(id) && !deleted) {
    close(); // marked as unread: to look at it would mark it as read again
  }
  const focused = document.activeElement.closest(".row")?.dataset.id;
  if (deleted?.includes(focused)) following(focused, deleted)?.querySelector(".row-link").focus();
  for (const gone of deleted || []) rowOf(gone)?.remove();
  refresh();
});

/** The row below, else the one above. Ids sort by time: the message's own row may be gone already. */
function following(id, gone) {
  const left = rows().filter((row) => row.dataset.id !== id && !gone.includes(row.dataset.id));
  return left.find((row) => row.dataset.id < id) || left.at(-1);
}

/* Undo. The server has deleted the message and holds it for some seconds, so that whatever becomes of this page
   leaves no message that was deleted. Of several notices the last one is shown. */

function offerUndo(id, { text, seconds }) {
  const [row, url] = [rowOf(id), listUrl()];
  const address = openId() === id && location.pathname + location.search;
  const notice = desk.notice(text, false, seconds);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "undo";
  button.append("Undo ", Object.assign(document.createElement("kbd"), { textContent: "z" }));
  notice.classList.add("can-undo");
  notice.append(button);
  button.addEventListener("click", async () => {
    button.disabled = true;
    const target = `${desk.base}/messages/${id}/undo`;
    const answer = await fetch(target, { method: "POST", headers: { "HX-Request": "true" } }).catch(() => null);
    button.disabled = false;
    if (answer?.status === 401) location.assign(`${desk.base}/login`);
    if (!answer) return desk.notice("Gatepost does not answer. The message is still deleted.", true);
    notice.remove();
    if (!answer.ok) return desk.notice(answer.status === 410 ? await answer.text() : "This did not work.", true);
    if (row && url === listUrl()) putBack(row);
    if (address) open(id, address);
    refresh();
  });
}

/** Put a row where it was: ids sort by time. */
function putBack(row) {
  const box = document.getElementById("rows");
  if (!box || rowOf(row.dataset.id)) return;
  delete row.dataset.open;
  box.insertBefore(row, rows().find((other) => other.dataset.id < row.dataset.id) || box.querySelector(".more-rows"));
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target === reader) {
    shown();
    const tab = event.detail.requestConfig?.elt.closest?.(".tabs a, .attachments a");
    if (tab) history.replaceState(history.state, "", tab.getAttribute("href"));
  }
  if (event.detail.requestConfig?.path.includes("before=")) {
    // Rows that were kept because they are selected come again with the older ones.
    const first = new Map();
    for (const row of rows()) first.has(row.id) ? row.remove() : first.set(row.id, row);
  }
  if (event.target === list) {
    selected();
    shown();
    count();
    const query = search.value.trim();
    const home = document.body.dataset.home.split("?")[0];
    document.body.dataset.home = query ? `${home}?${new URLSearchParams({ q: query })}` : home;
    const url = new URL(openId() ? location.href : document.body.dataset.home, location.href);
    if (query) url.searchParams.set("q", query);
    else url.searchParams.delete("q");
    history.replaceState(history.state, "", url);
  }
});

document.addEventListener("htmx:configRequest", (event) => {
  // The buttons of the open message mean that message, those of the list the ones that are selected.
  if (event.detail.path === `${desk.base}/messages/change`) event.detail.parameters.set("do", event.detail.elt.value);
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
    case "z":
      [...document.querySelectorAll(".undo")].at(-1)?.click();
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
