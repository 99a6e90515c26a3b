// The live conversation: lines come as server-sent events, ten times a second at most.
// All text is set as text, never as markup.
"use strict";

(() => {
  const LINES_SHOWN = 1500;
  const LINES_HELD = 5000; // while paused
  const SESSIONS_SHOWN = 40;
  const TONES = 8;
  const RETRY_MS = 2000;
  const SPEAKERS = { C: "client", D: "client", S: "server", "*": "note" };

  const page = document.getElementById("live");
  if (!page) return;
  const part = (name) => page.querySelector(`[data-live="${name}"]`);
  const list = part("lines");
  const sessions = new Sessions(part("sessions"), page.dataset.sessions);
  const state = { source: null, paused: false, follow: true, held: [], missed: 0, lost: 0, last: "", node: "", told: "" };
  const nodes = new Map(); // of the sessions with lines here

  // Drawing

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function tone(session) {
    let sum = 0;
    for (const character of session) sum = (sum * 31 + character.charCodeAt(0)) % 9973;
    return sum % TONES;
  }

  function drawnLine([session, at, direction, text]) {
    const line = element("li", `line line-${SPEAKERS[direction]} tone-${tone(session)}`);
    if (direction === "D") line.classList.add("line-data");
    if (direction === "S" && "2345".includes(text[0])) line.classList.add(`reply-${text[0]}`);
    if (session !== state.last) line.classList.add("line-first");
    state.last = session;
    line.append(element("time", "line-time", desk.clock(new Date(at))));
    const name = element("button", "line-session", session.slice(-5));
    name.type = "button";
    name.dataset.session = session;
    name.title = `Show only session ${session}`;
    line.append(name, element("span", "line-speaker", direction === "D" ? "C" : direction));
    line.append(element("span", "line-text", text));
    return line;
  }

  /** Where the next lines come from, where the list of sessions has no room; nothing with one node. */
  function drawnNode(session) {
    const node = nodes.get(session) || "";
    if (node === state.node) return null;
    state.node = node;
    return node && element("li", "line-node", `on ${node}`);
  }

  function draw(lines, missed) {
    const drawn = document.createDocumentFragment();
    if (missed) {
      const plural = missed === 1 ? "line is" : "lines are";
      drawn.append(element("li", "line line-missed", `${missed.toLocaleString("en")} ${plural} not shown`));
      state.last = "";
    }
    for (const line of lines.slice(-LINES_SHOWN)) {
      const node = drawnNode(line[0]);
      if (node) drawn.append(node);
      drawn.append(drawnLine(line));
    }
    list.append(drawn);
    while (list.childElementCount > LINES_SHOWN) list.firstElementChild.remove();
    part("empty").hidden = list.childElementCount > 0;
    if (state.follow) list.scrollTop = list.scrollHeight;
  }

  // Sessions of late

  function Sessions(place, address) {
    const known = new Map();
    this.add = (names, lines) => {
      for (const [id, [client, helo, node]] of Object.entries(names)) {
        const item = known.get(id) || created(id);
        item.client.textContent = client || "unknown client";
        item.helo.textContent = helo;
        item.place.textContent = node;
      }
      for (const [id, , direction, text] of lines) {
        const item = known.get(id);
        if (item && direction === "S") item.reply.textContent = text;
        if (item && direction === "S") item.reply.className = `session-reply reply-${text[0]}`;
        if (item && direction === "*" && text === "closed") item.node.classList.add("session-closed");
      }
      while (known.size > SESSIONS_SHOWN) {
        const [oldest, item] = known.entries().next().value;
        item.node.remove();
        known.delete(oldest);
      }
    };
    this.clear = () => {
      known.clear();
      place.replaceChildren();
    };
    function created(id) {
      const node = element("li", `session tone-${tone(id)}`);
      const name = element(address ? "a" : "span", "session-id", id.slice(-5));
      if (address) name.href = address + encodeURIComponent(id);
      const item = {
        node,
        client: element("span", "session-client"),
        helo: element("span", "session-helo"),
        place: element("span", "session-node"),
        reply: element("span", "session-reply"),
      };
      node.append(name, item.client, item.helo, item.place, item.reply);
      place.prepend(node);
      known.set(id, item);
      return item;
    }
  }

  // Events

  function take(event) {
    const { lines, missed, sessions: names } = JSON.parse(event.data);
    sessions.add(names, lines);
    for (const [id, [, , node]] of Object.entries(names)) {
      nodes.delete(id); // the latest are last
      nodes.set(id, node);
    }
    while (nodes.size > LINES_HELD) nodes.delete(nodes.keys().next().value);
    state.lost += missed;
    state.told = event.lastEventId;
    if (!state.paused) {
      draw(lines, missed);
      if (missed) say();
      return;
    }
    for (const line of lines) state.held.push(line);
    state.missed += missed;
    if (state.held.length > LINES_HELD) {
      state.missed += state.held.length - LINES_HELD;
      state.held.splice(0, state.held.length - LINES_HELD);
    }
    say();
  }

  function start() {
    clear();
    state.told = "";
    connect();
  }

  function connect() {
    clearTimeout(state.retry);
    state.source?.close();
    const words = part("filter").elements.q.value.trim();
    const address = new URL(page.dataset.events, location.href);
    if (words) address.searchParams.set("q", words);
    if (state.told) address.searchParams.set("after", state.told);
    state.source = new EventSource(address);
    state.source.addEventListener("lines", take);
    state.source.addEventListener("open", say);
    state.source.addEventListener("error", () => {
      // After an answer that is no stream a browser does not try again by itself.
      if (state.source.readyState === EventSource.CLOSED) state.retry = setTimeout(connect, RETRY_MS);
      say();
    });
    say();
  }

  function say() {
    const waiting = state.held.length + state.missed;
    const states = { 0: "Connecting", 1: "Live", 2: "Not connected, trying again" };
    let text = states[state.source.readyState];
    if (state.paused) text = waiting ? `Paused, ${waiting.toLocaleString("en")} lines wait` : "Paused";
    if (state.lost) text += `, ${state.lost.toLocaleString("en")} lines not shown`;
    part("state").textContent = text;
    part("state").dataset.state = state.paused ? "paused" : String(state.source.readyState);
  }

  function clear() {
    list.replaceChildren();
    sessions.clear();
    state.held = [];
    state.missed = 0;
    state.lost = 0;
    state.last = "";
    state.node = "";
    part("empty").hidden = false;
  }

  // What people do

  function pause(paused) {
    state.paused = paused;
    part("pause").setAttribute("aria-pressed", String(paused));
    part("pause").textContent = paused ? "Resume" : "Pause";
    if (!paused) {
      draw(state.held, state.missed);
      state.held = [];
      state.missed = 0;
    }
    say();
  }

  function follow(on) {
    state.follow = on;
    part("follow").checked = on;
    if (on) list.scrollTop = list.scrollHeight;
  }

  function filter(words) {
    part("filter").elements.q.value = words;
    const address = new URL(location.href);
    if (words) address.searchParams.set("q", words);
    else address.searchParams.delete("q");
    history.replaceState(null, "", address);
    start();
  }

  part("pause").addEventListener("click", () => pause(!state.paused));
  part("clear").addEventListener("click", () => {
    clear();
    say();
  });
  part("follow").addEventListener("change", (event) => follow(event.target.checked));
  part("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    filter(event.target.elements.q.value.trim());
  });
  part("filter").addEventListener("search", (event) => filter(event.target.value.trim()));
  list.addEventListener("click", (event) => {
    const session = event.target.dataset.session;
    if (session) filter(session);
  });
  list.addEventListener("wheel", (event) => {
    if (event.deltaY < 0) follow(false);
  }, { passive: true });
  list.addEventListener("keydown", (event) => {
    if (["ArrowUp", "PageUp", "Home"].includes(event.key)) follow(false);
    if (event.key === "End") follow(true);
  });
  window.addEventListener("pagehide", () => {
    clearTimeout(state.retry);
    state.source.close();
  });
  window.addEventListener("pageshow", (event) => event.persisted && connect());
  start();
})();
