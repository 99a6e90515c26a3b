// Postal Systems' postal-mime.
import PostalMime from "postal-mime";
import { flatten, serve } from "./serve.mjs";

async function read(message) {
  const parsed = await PostalMime.parse(message, { attachmentEncoding: "arraybuffer" });
  return flatten(parsed, (attachment) => Buffer.from(attachment.content), read);
}

await serve(read);
