// Import of messages from files: chosen with the button, or dropped on the list.
"use strict";

{
  const PROBLEMS_SHOWN = 3;
  const SEPARATOR = /^From (?:.*\d:\d\d|(?:[^ \t\r\n]+@[^ \t\r\n]+)?[ \t]*\r?\n[!-9;-~]+[ \t]*:)/;
  const pane = document.querySelector(".list-pane");
  const chooser = document.getElementById("import");
  const button = document.querySelector("[data-do=import]");
  const progress = document.getElementById("importing");

  /** Post one file; returns how many messages were imported, and what was not. */
  async function post(file) {
    const isMbox = SEPARATOR.test(await file.slice(0, 1024).text());
    const answer = await fetch(`${desk.base}/api/v1/messages`, {
      method: "POST",
      headers: { "content-type": isMbox ? "application/mbox" : "message/rfc822" },
      body: file,
    });
    const { messages = [], refused = [], detail } = await answer.json();
    const problems = refused.map(({ line, reason }) => `${file.name}, line ${line}: ${reason}`);
    if (!answer.ok) problems.unshift(`${file.name}: ${detail}`);
    return { number: messages.length, problems };
  }

  async function importAll(files) {
    if (button.disabled || !files.length) return;
    button.disabled = true;
    let imported = 0;
    const problems = [];
    for (const [index, file] of files.entries()) {
      progress.textContent = `Importing ${file.name} (${index + 1} of ${files.length}) …`;
      progress.hidden = false;
      try {
        const found = await post(file);
        imported += found.number;
        problems.push(...found.problems);
      } catch {
        problems.push(`${file.name} could not be read or sent.`);
      }
    }
    progress.hidden = true;
    button.disabled = false;
    if (imported) desk.notice(`${imported} ${imported === 1 ? "message" : "messages"} imported.`);
    for (const problem of problems.slice(0, PROBLEMS_SHOWN)) desk.notice(problem, true);
    const more = problems.length - PROBLEMS_SHOWN;
    if (more > 0) desk.notice(`Not imported either: ${more} more.`, true);
  }

  button.addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    const files = [...chooser.files];
    chooser.value = ""; // so that the same file can be chosen again
    importAll(files);
  });

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  pane.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    pane.classList.add("is-drop");
  });
  pane.addEventListener("dragleave", (event) => {
    if (!pane.contains(event.relatedTarget)) pane.classList.remove("is-drop");
  });
  pane.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    pane.classList.remove("is-drop");
    importAll([...event.dataTransfer.files]);
  });
}
