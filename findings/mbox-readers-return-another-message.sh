#!/bin/sh
# mbox-parser 1.0.1, node-mbox 2.0.0 with line-stream 1.0.0 and mbox-reader 1.2.0 (npm).
# An mbox file holds messages as they are, each with its own charset and encoding. A line that begins with "From " has a ">"
# before it, and each message an empty line behind it, which a reader takes off; so says the manual page of qmail's mbox, to
# which node-mbox refers. mbox-parser decodes the whole file as UTF-8 before it looks at the charset of a message: each
# letter beyond ASCII of a message in ISO 8859-1 with 8 bits is three others, which nothing can undo. node-mbox and
# mbox-parser leave the ">", and node-mbox the empty line: the text is not the one that was signed or hashed.
# mbox-reader returns letters and lines as they were.
# Output: mbox-parser: Grï¿½ï¿½e, ">From here" / node-mbox: Grüße, ">From here", an empty line more /
#  mbox-reader: Grüße, "From here"
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mbox-parser@1.0.1 node-mbox@2.0.0 \
  mbox-reader@1.2.0 line-stream@1.0.0 >/dev/null
cat >"$here/read.mjs" <<'JS'
import { Readable } from "node:stream";
import split from "line-stream";
import parser from "mbox-parser";
import nodeMbox from "node-mbox";
import { mboxReader } from "mbox-reader";

const fields = "From: ann@example.org\nSubject: Minutes\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n";
const mail = `${fields}Content-Type: text/plain; charset=iso-8859-1\n\nGrüße\n>From here\n`;
const file = Buffer.from(`From ann@example.org Mon Nov 30 10:00:00 2026\n${mail}\n`, "latin1");
const show = (name, text) => {
  const [first, second, ...rest] = text.replace(/^[^]*?\n\n/, "").split("\n");
  console.log(`${name}: ${first}, "${second}"${rest.length > 1 ? ", an empty line more" : ""}`);
};
const [{ text }] = await parser.mboxParser(Readable.from([file]));
show("mbox-parser", `\n\n${text.trimEnd()}`);
const messages = Readable.from([file]).pipe(split("\n")).pipe(new nodeMbox.Mbox());
for await (const message of messages) show("node-mbox", Buffer.from(message).toString("latin1"));
for await (const { content } of mboxReader(Readable.from([file]))) show("mbox-reader", content.toString("latin1"));
JS
seen=$(timeout 60 node "$here/read.mjs" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = 'mbox-parser: Grï¿½ï¿½e, ">From here" / node-mbox: Grüße, ">From here", an empty line more / '\
'mbox-reader: Grüße, "From here"' ]
