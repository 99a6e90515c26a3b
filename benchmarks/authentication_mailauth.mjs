// What mailauth costs: milliseconds of processor time for each message, the median of the turns.
import { createRequire } from "node:module";

const require = createRequire(new URL("../tests/", import.meta.url));
const { dkimVerify } = require("mailauth/lib/dkim/verify");

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { record, turns, messages } = JSON.parse(input);
const resolver = async () => [[record]];

const found = [];
for (const message of messages) {
  const content = Buffer.from(message, "base64");
  const spent = [];
  for (let turn = 0; turn <= turns; turn++) { // the first one warms up
    const before = process.cpuUsage();
    const { results } = await dkimVerify(content, { resolver });
    const { user, system } = process.cpuUsage(before);
    if (results.some((one) => one.status.result !== "pass")) throw new Error(JSON.stringify(results));
    if (turn) spent.push((user + system) / 1000);
  }
  found.push(spent.sort((a, b) => a - b)[Math.floor(turns / 2)]);
}
console.log(JSON.stringify(found));
