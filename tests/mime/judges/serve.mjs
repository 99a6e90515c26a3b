// Answers messages on standard input (4 octets of length, then the message) with one line of JSON each.
export async function serve(read) {
  let buffered = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    buffered = Buffer.concat([buffered, chunk]);
    while (buffered.length >= 4 && buffered.length >= 4 + buffered.readUInt32BE(0)) {
      const end = 4 + buffered.readUInt32BE(0);
      const message = buffered.subarray(4, end);
      buffered = buffered.subarray(end);
      let answer;
      try {
        answer = await read(message);
      } catch (error) {
        answer = { error: String(error) };
      }
      process.stdout.write(JSON.stringify(answer) + "\n");
    }
  }
}

// What a reader shows, with the messages that are attached opened in the same way.
export async function flatten(parsed, octetsOf, read) {
  const shown = { texts: [], attachments: [] };
  for (const text of [parsed.subject, parsed.text, parsed.html]) if (text) shown.texts.push(text);
  for (const attachment of parsed.attachments || []) {
    const octets = octetsOf(attachment);
    const type = attachment.contentType || attachment.mimeType || "";
    const names = attachment.filename ? [attachment.filename] : [];
    shown.attachments.push({ names, type, octets: octets.toString("base64") });
    if (type === "message/rfc822") {
      const inner = await read(octets);
      shown.texts.push(...inner.texts);
      shown.attachments.push(...inner.attachments);
    }
  }
  return shown;
}
