// mailauth: SPF, DKIM, ARC and DMARC. Its parts are loaded without BIMI, which needs a newer Node.
import dns from "node:dns/promises";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { dkimVerify } = require("mailauth/lib/dkim/verify");
const { spf } = require("mailauth/lib/spf");
const { arc } = require("mailauth/lib/arc");
const { evaluateDmarc } = require("mailauth/lib/dmarc");

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { server, letters } = JSON.parse(input);
const asking = new dns.Resolver();
asking.setServers([server]);
const resolver = (name, kind) => asking.resolve(name, kind);

async function judge(letter) {
  const verified = await dkimVerify(Buffer.from(letter.content, "base64"), { resolver, sender: letter.sender, strict: true });
  const sent = await spf({
    resolver, sender: letter.sender, ip: letter.client, helo: letter.helo, mta: "mx.example.com", strict: true,
  });
  const chain = await arc(verified.arc, { resolver, strict: true });
  const passed = verified.results.filter((one) => one.status.result === "pass");
  const { response } = await evaluateDmarc({
    headerFrom: verified.headerFrom,
    fromFields: verified.fromFields,
    spfDomains: sent.status.result === "pass" ? [sent.domain] : [],
    dkimDomains: passed.map((one) => ({
      id: one.id, domain: one.signingDomain, aligned: one.status.aligned, underSized: one.status.underSized,
    })),
    arcResult: chain,
    resolver,
    strict: true,
  });
  return {
    spf: sent.status.result,
    dkim: verified.results.map((one) => one.status.result),
    arc: chain?.status?.result ?? "none",
    dmarc: judged(response),
  };
}

function judged(response) {
  if (!response) return "permerror";
  return response.status.result === "fail" ? `fail ${response.policy}` : response.status.result;
}

const found = [];
for (const letter of letters) {
  try {
    found.push(await judge(letter));
  } catch (error) {
    found.push({ error: String(error) });
  }
}
console.log(JSON.stringify(found));
