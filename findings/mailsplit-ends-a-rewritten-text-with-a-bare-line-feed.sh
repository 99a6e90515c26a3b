#!/bin/sh
# mailsplit 5.4.6 (npm).
# Its Rewriter hands out the texts of a message to be changed, as a disclaimer needs, and writes them back. Text within a
# multipart ends with a bare LF then, before the CRLF of the boundary: a line that the author has not written, and in SMTP an
# LF without a CR is not allowed (RFC 5321 section 2.3.8), and many servers refuse it. The line
# end before a boundary belongs to it (RFC 2046 section 5.1.1), so the text has none at its end. A part without fields, which
# begins with an empty line, gets another one as its first line. A message of one text is right, and so is what is not
# rewritten.
# Output: not rewritten: as it was / one text: "Hello\r\n" / with fields: "Hello\n" / without fields: "\r\nHello\n"
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailsplit@5.4.6 >/dev/null
cat >"$here/rewrite.js" <<'JS'
const { Joiner, Rewriter, Splitter } = require("mailsplit");

const rewritten = (mail, wanted) =>
  new Promise((resolve) => {
    const splitter = new Splitter();
    const rewriter = new Rewriter(wanted);
    rewriter.on("node", ({ decoder, encoder }) => decoder.pipe(encoder));
    const joiner = new Joiner();
    const chunks = [];
    joiner.on("data", (chunk) => chunks.push(chunk));
    joiner.on("end", () => resolve(Buffer.concat(chunks).toString()));
    splitter.pipe(rewriter).pipe(joiner);
    splitter.end(mail);
  });
const mixed = (fields) =>
  `From: ann@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n` +
  `--b\r\n${fields}\r\nHello\r\n--b--\r\n`;
const text = ({ contentType }) => contentType === "text/plain";
const part = (mail) => JSON.stringify(/quoted-printable\r\n(?:Content-Type: .*\r\n)?\r\n([^]*?)\r\n--b--/.exec(mail)[1]);
(async () => {
  const typed = mixed("Content-Type: text/plain\r\n");
  console.log("not rewritten:", (await rewritten(typed, () => false)) === typed ? "as it was" : "changed");
  const one = await rewritten("From: ann@example.org\r\n\r\nHello\r\n", text);
  console.log("one text:", JSON.stringify(one.slice(one.indexOf("\r\n\r\n") + 4)));
  console.log("with fields:", part(await rewritten(typed, text)));
  console.log("without fields:", part(await rewritten(mixed(""), text)));
})();
JS
seen=$(node "$here/rewrite.js" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'not rewritten: as it was / one text: "Hello\r\n" / with fields: "Hello\n" / without fields: "\r\nHello\n"' ]
