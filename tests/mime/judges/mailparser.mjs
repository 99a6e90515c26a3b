// Nodemailer's mailparser.
import mailparser from "mailparser";
import { flatten, serve } from "./serve.mjs";

const options = { skipHtmlToText: true, skipTextToHtml: true, skipTextLinks: true, skipImageLinks: true };

async function read(message) {
  const parsed = await mailparser.simpleParser(message, options);
  return flatten(parsed, (attachment) => Buffer.from(attachment.content), read);
}

await serve(read);
