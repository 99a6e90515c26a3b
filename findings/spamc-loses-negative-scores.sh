#!/bin/sh
# spamc 0.0.5 (npm), spamd 4.0.1 (Debian's package spamd).
# spamd answers "Spam: False ; -1.0 / 5.0" for most good mail, and the names of the rules with commas between them. The
# client reads no score with a minus, and no rule without a comma behind it: good mail has neither `isSpam` nor
# `spamScore`, as a scan that failed, and the last rule is always missing; of one rule there is no list at all. With a
# positive score both are there.
# Output: good: undefined undefined A_GOOD / bad: true 6 A_BAD
#  (of spamd: -1.0 with A_GOOD,Z_LAST and 6.0 with A_BAD,Z_LAST)
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts spamc@0.0.5 >/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$here/rules"
echo "loadplugin Mail::SpamAssassin::Plugin::Check" >"$here/rules/own.pre"
cat >"$here/rules/own.cf" <<'CF'
required_score 5
body A_GOOD /minutes/
score A_GOOD -2
body A_BAD /lottery/
score A_BAD 5
body Z_LAST /hello/
score Z_LAST 1
CF
chmod -R a+rX "$here"
as=
test "$(id -u)" != 0 || as="-u nobody"
spamd --local --nouser-config -C "$here/rules" --siteconfigpath="$here/rules" --max-children=1 $as \
  --listen=127.0.0.1 --port="$port" --syslog=null 2>/dev/null &
server=$!
cat >"$here/ask.js" <<'JS'
const Spamc = require("spamc");
const client = new Spamc("127.0.0.1", Number(process.argv[2]), 20);
const symbols = (text) =>
  new Promise((resolve, reject) =>
    client.symbols(`From: ann@example.org\r\n\r\nhello ${text}\r\n`, (error, got) => (error ? reject(error) : resolve(got))),
  );
(async () => {
  for (let tries = 0; ; tries++) {
    try {
      await symbols("");
      break;
    } catch (error) {
      if (tries > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  for (const [name, text] of [["good", "minutes"], ["bad", "lottery"]]) {
    const { isSpam, spamScore, matches } = await symbols(text);
    console.log(`${name}: ${isSpam} ${spamScore} ${matches}`);
  }
})();
JS
seen=$(node "$here/ask.js" "$port" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "good: undefined undefined A_GOOD / bad: true 6 A_BAD" ]
