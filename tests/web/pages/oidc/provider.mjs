// A provider of OpenID Connect for the tests. It prints its port, reads its client from a line of JSON on standard input,
// prints "ready", and ends with standard input. A user's name is the account, and the groups: "ann+help+watch".
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Provider } from "oidc-provider";

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => {
  const issuer = `http://localhost:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [JSON.parse(line)],
    claims: { openid: ["sub"], profile: ["preferred_username"], groups: ["groups"] },
    cookies: { keys: ["for the tests"] },
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: {
        logoutSource: (context, form) => {
          context.body = `<!doctype html><title>Provider</title>${form}
            <button form="op.logoutForm" name="logout" value="yes">Yes, sign out</button>`;
        },
      },
    },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    pkce: { required: () => true },
    findAccount: (_, id) => {
      const [name, ...groups] = id.split("+");
      return { accountId: id, claims: () => ({ sub: id, preferred_username: name, groups }) };
    },
    loadExistingGrant: async ({ oidc }) => {
      const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
      grant.addOIDCScope("openid profile groups");
      await grant.save();
      return grant;
    },
  });
  const ours = provider.callback();
  answer = async (request, response) => {
    if (!request.url.startsWith("/interaction/")) return ours(request, response);
    if (request.method === "GET") {
      response.setHeader("content-type", "text/html");
      return response.end(
        `<!doctype html><title>Provider</title><link rel="icon" href="data:,"><form method="post">
        <label>Account <input name="account"></label><button name="do" value="log in">Sign in</button>
        <button name="do" value="cancel">Cancel</button></form>`,
      );
    }
    let body = "";
    for await (const piece of request) body += piece;
    const form = new URLSearchParams(body);
    const result =
      form.get("do") === "cancel"
        ? { error: "access_denied", error_description: "cancelled by the user" }
        : { login: { accountId: form.get("account") } };
    return provider.interactionFinished(request, response, result);
  };
  console.log("ready");
});
lines.once("close", () => process.exit());
