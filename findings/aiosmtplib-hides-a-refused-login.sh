#!/bin/sh
# aiosmtplib 5.1.3 (PyPI).
# A server may refuse AUTH with 535 and close the connection. aiosmtplib then tries the next mechanism that the
# server had offered, on the closed connection, and raises that error: the caller hears of a lost connection, which
# he will take for trouble that passes, and not that the password is wrong.
# Output: SMTPServerDisconnected
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check aiosmtplib==5.1.3 2>/dev/null
cat >"$here/login.py" <<'PY'
import asyncio
import aiosmtplib

async def serve(reader, writer):
    writer.write(b"220 mail.example ESMTP\r\n")
    while line := await reader.readline():
        if line.startswith(b"EHLO"):
            writer.write(b"250-mail.example\r\n250 AUTH PLAIN LOGIN\r\n")
        else:
            writer.write(b"535 5.7.8 Authentication credentials invalid\r\n")
            break
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.sockets[0].getsockname()[1])
    await client.connect()
    try:
        await client.login("user", "wrong")
    except aiosmtplib.SMTPException as error:
        print(type(error).__name__)
    server.close()

asyncio.run(main())
PY
seen=$("$here/venv/bin/python" "$here/login.py")
echo "$seen"
[ "$seen" = "SMTPServerDisconnected" ]
