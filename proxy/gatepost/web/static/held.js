// Sessions that are held: how long they wait, and what becomes of the form when that is over.
"use strict";

(() => {
  function count(root) {
    for (const left of root.querySelectorAll("[data-deadline]")) {
      const seconds = Math.max(0, Math.round((new Date(left.dataset.deadline) - Date.now()) / 1000));
      const minutes = Math.floor(seconds / 60);
      const text = minutes ? `${minutes}:${String(seconds % 60).padStart(2, "0")} min left` : `${seconds} s left`;
      if (left.textContent !== text) left.textContent = text;
    }
  }

  document.addEventListener("htmx:afterSwap", (event) => {
    count(event.target);
    const one = document.querySelector(".held-one");
    if (one && event.target.querySelector("[data-held-ended]")) {
      one.querySelector(".held-fields").disabled = true; // what was typed can still be copied
      one.querySelector("[role=timer]").hidden = true;
    } else if (!one && event.target.querySelector(".held-sessions")) {
      location.reload(); // the first session: show it
    }
  });
  count(document);
  setInterval(() => count(document), 1000);
})();
