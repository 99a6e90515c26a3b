#!/bin/sh
# email-addresses 5.0.0, address-rfc2822 2.2.4 (Haraka's) and isemail 3.2.0 (npm).
# A local part may be in quotes, with a blank, two dots or nothing in it (RFC 5322 section 3.4.1): they belong to the address
# wherever it is written. email-addresses, and address-rfc2822 which is built on it, return it without them: what comes out
# is no address any more ("ann lee@example.org", "@example.org"). format() of address-rfc2822 writes that into a field, and
# the library itself cannot read it again. Of a list with an empty entry (section 4.4, "a@b.example,, c@d.example", which
# readers must accept) both return nothing: all recipients are lost. isemail, by the RFCs as it says, refuses a blank.
# Output: "ann lee"@example.org: ann lee@example.org, written ann lee@example.org, read again: no, isemail false /
#  "ann..lee"@example.org: ann..lee@example.org, written ann..lee@example.org, read again: no, isemail true /
#  ""@example.org: @example.org, written @example.org, read again: no, isemail true / two with an empty entry: null
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts email-addresses@5.0.0 address-rfc2822@2.2.4 \
  isemail@3.2.0 >/dev/null
cat >"$here/read.js" <<'JS'
const { parse } = require("address-rfc2822");
const { parseAddressList, parseOneAddress } = require("email-addresses");
const { validate } = require("isemail");

const readable = (field) => {
  try {
    return parse(field).length === 1 ? "yes" : "no";
  } catch {
    return "no";
  }
};
for (const address of ['"ann lee"@example.org', '"ann..lee"@example.org', '""@example.org']) {
  const written = parse(address)[0].format();
  const seen = [parseOneAddress(address).address, `written ${written}`, `read again: ${readable(written)}`];
  console.log(`${address}: ${seen.join(", ")}, isemail ${validate(address)}`);
}
console.log("two with an empty entry:", parseAddressList("ann@example.org,, bob@example.net"));
JS
seen=$(node "$here/read.js" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = '"ann lee"@example.org: ann lee@example.org, written ann lee@example.org, read again: no, isemail false / '\
'"ann..lee"@example.org: ann..lee@example.org, written ann..lee@example.org, read again: no, isemail true / '\
'""@example.org: @example.org, written @example.org, read again: no, isemail true / two with an empty entry: null' ]
