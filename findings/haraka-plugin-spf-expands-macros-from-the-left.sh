#!/bin/sh
# haraka-plugin-spf 1.3.0 (npm).
# In an SPF record "%{d2}" means the two rightmost labels of the domain, "%{ir}" of an IPv6 address its 32 nibbles in
# reverse (RFC 7208 sections 7.3 and 7.4, with examples). Haraka's plugin takes the leftmost labels, and leaves the
# address as it is: it asks DNS for other names than the domain has, and with "-all" the mail is refused. A macro in
# exp= or redirect=, as in the RFC's own example "exp=explain._spf.%{d}", is a permanent error for the whole record,
# even for a client that an earlier mechanism allows; and so is "a//64", the length of an IPv6 network alone (section 5.6).
# Output (the domain is email.example.com): %{d2}: asks email.example.x.example /
#  %{ir}.%{v}: asks 2001:db8::cb01.ip6.x.example / without exp: Pass / with exp: PermError /
#  with an IPv6 length alone: PermError
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts \
  haraka-plugin-spf@1.3.0 haraka-net-utils@1.9.3 >/dev/null
cat >"$here/ask.js" <<'JS'
const dns = require("node:dns/promises");
const { SPF } = require("haraka-plugin-spf/lib/spf.js");

async function check(record, ip) {
  const asked = [];
  const absent = (name) => {
    asked.push(name);
    return Promise.reject(Object.assign(new Error(name), { code: dns.NOTFOUND }));
  };
  const spf = new SPF();
  spf.log_debug = () => {};
  spf.resolver = { resolveTxt: async () => [[record]], resolve: absent };
  const result = await spf.check_host(ip, "email.example.com", "ann@email.example.com");
  return [spf.result(result), asked.join(" ")];
}

(async () => {
  console.log("%{d2}: asks", (await check("v=spf1 exists:%{d2}.x.example -all", "192.0.2.3"))[1]);
  console.log("%{ir}.%{v}: asks", (await check("v=spf1 exists:%{ir}.%{v}.x.example -all", "2001:db8::cb01"))[1]);
  console.log("without exp:", (await check("v=spf1 ip4:192.0.2.3 -all", "192.0.2.3"))[0]);
  console.log("with exp:", (await check("v=spf1 ip4:192.0.2.3 -all exp=explain._spf.%{d}", "192.0.2.3"))[0]);
  console.log("with an IPv6 length alone:", (await check("v=spf1 ip4:192.0.2.3 a//64 -all", "192.0.2.3"))[0]);
})();
JS
seen=$(node "$here/ask.js" | grep -v '^loaded' | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "%{d2}: asks email.example.x.example / %{ir}.%{v}: asks 2001:db8::cb01.ip6.x.example / \
without exp: Pass / with exp: PermError / with an IPv6 length alone: PermError" ]
