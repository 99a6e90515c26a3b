// The frame with the HTML of a message: colours, width, remote images. The choice of colours and width is kept.
"use strict";

function framed(frame, name, value) {
  const url = new URL(frame.dataset.url || frame.src);
  url.searchParams.set(name, value);
  frame.dataset.url = url;
  frame.contentWindow.location.replace(url); // not src: each choice would be a step in the history
}

function chosen(actor, attribute, isOn) {
  for (const other of actor.parentElement.children) {
    if (isOn(other)) other.setAttribute(attribute, "true");
    else if (attribute === "aria-pressed") other.setAttribute(attribute, "false");
    else other.removeAttribute(attribute);
  }
}

document.addEventListener("click", (event) => {
  const actor = event.target.closest("[data-preview]");
  if (!actor || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const { preview, value } = actor.dataset;
  const frame = document.querySelector("iframe[name=mail-frame]");
  if (preview === "images") {
    actor.closest(".images").hidden = true;
    framed(frame, preview, value);
    return;
  }
  document.cookie = `gatepost-preview-${preview}=${value}; path=${desk.base || "/"}; max-age=31536000; samesite=strict`;
  if (preview === "colors") {
    chosen(actor, "aria-current", (other) => other === actor);
    for (const hint of document.querySelectorAll(".no-dark")) hint.hidden = value !== "dark";
    framed(frame, preview, value);
  } else {
    chosen(actor, "aria-pressed", (other) => other === actor);
    frame.className = `is-${value}`;
  }
});
