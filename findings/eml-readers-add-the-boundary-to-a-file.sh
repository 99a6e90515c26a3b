#!/bin/sh
# eml-format 0.6.1, eml-parse-js 1.1.15 and, for comparison, mailparser 3.14.2 (npm).
# The closing boundary ends the last part (RFC 2046 section 5.1.1). eml-format takes it for content: base64 of its letters
# is decoded behind each message's last file, whose hash is then another in every message, and a second text ends with the
# boundary. Encoded words side by side are one text, without the blanks between them (RFC 2047 section 6.2): eml-format
# returns the first of them, eml-parse-js keeps the blank. Of a folded subject (RFC 5322 section 2.2.3) eml-parse-js removes
# the blank, and joins two words; eml-format keeps the line end. A message without Content-Type is text (RFC 2045 section
# 5.2): both have no text, but an attachment without a name. All of it without an error.
# Output: file: eml-format 000102fbea5aaedfbe, eml-parse-js 000102, mailparser 000102 / subject: eml-format "Minutes_of",
#  eml-parse-js "Minutes of  the board", mailparser "Minutes of the board" / folded: eml-format "Minutes\r\nof the board",
#  eml-parse-js "Minutesof the board", mailparser "Minutes of the board" / without a type: eml-format 1 attachment,
#  eml-parse-js 1 attachment, mailparser "Hello\n"
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts eml-format@0.6.1 eml-parse-js@1.1.15 \
  mailparser@3.14.2 >/dev/null
cat >"$here/read.js" <<'JS'
const { promisify } = require("node:util");
const format = require("eml-format");
const { readEml } = require("eml-parse-js");
const { simpleParser } = require("mailparser");

const read = promisify(format.read);
console.warn = () => {};
const head = "From: ann@example.org\r\nMIME-Version: 1.0\r\n";
const file =
  `${head}Subject: Minutes\r\nContent-Type: multipart/mixed; boundary="part"\r\n\r\n` +
  "--part\r\nContent-Type: text/plain\r\n\r\nHello\r\n" +
  '--part\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="a.bin"\r\n' +
  "Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--part--\r\n";
const text = (subject) => `${head}Subject: ${subject}\r\nContent-Type: text/plain\r\n\r\nHello\r\n`;
const show = (name, one, two, three) => {
  console.log(`${name}: eml-format ${one}, eml-parse-js ${two}, mailparser ${three}`);
};
const subjects = async (mail) => {
  const all = [await read(mail), readEml(mail), await simpleParser(mail)];
  return all.map(({ subject }) => JSON.stringify(subject));
};
(async () => {
  const files = [await read(file), readEml(file), await simpleParser(file)].map(({ attachments }) => attachments[0]);
  const bytes = [files[0].data, Buffer.from(files[1].data64, "base64"), files[2].content];
  show("file", ...bytes.map((content) => content.toString("hex")));
  show("subject", ...(await subjects(text("=?utf-8?q?Minutes_of?= =?utf-8?q?_the_board?="))));
  show("folded", ...(await subjects(text("Minutes\r\n of the board"))));
  const plain = "From: ann@example.org\r\nSubject: Minutes\r\n\r\nHello\r\n";
  const [one, two] = [await read(plain), readEml(plain)].map((mail) => mail.text ?? `${mail.attachments.length} attachment`);
  show("without a type", one, two, JSON.stringify((await simpleParser(plain)).text));
})();
JS
seen=$(node "$here/read.js")
printf '%s\n' "$seen"
[ "$seen" = 'file: eml-format 000102fbea5aaedfbe, eml-parse-js 000102, mailparser 000102
subject: eml-format "Minutes_of", eml-parse-js "Minutes of  the board", mailparser "Minutes of the board"
folded: eml-format "Minutes\r\nof the board", eml-parse-js "Minutesof the board", mailparser "Minutes of the board"
without a type: eml-format 1 attachment, eml-parse-js 1 attachment, mailparser "Hello\n"' ]
