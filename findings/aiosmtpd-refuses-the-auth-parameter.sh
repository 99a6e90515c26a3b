#!/bin/sh
# aiosmtpd 1.4.6 (PyPI).
# A server that announces AUTH must take AUTH= behind MAIL, from any client (RFC 4954 section 5): a relay that logs in with a
# name of its own says there who has written the mail, or "<>" if it does not know. aiosmtpd announces AUTH, and answers
# 555 to every MAIL that has it, which is for good: the mail of such a relay comes back, and nothing in the handler can
# help, as handle_MAIL is not asked.
# Output: 250-AUTH LOGIN PLAIN / 235 / MAIL FROM:<ann@example.org>: 250 / MAIL FROM:<ann@example.org> AUTH=<>: 555, not asked
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check aiosmtpd==1.4.6 2>/dev/null
cat >"$here/try.py" <<'PY'
import asyncio
import smtplib

from aiosmtpd.smtp import SMTP, AuthResult

asked = []


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        asked.append(options)
        envelope.mail_from = address
        return "250 fine"


def welcome(server, session, envelope, mechanism, login):
    return AuthResult(success=True)


def client(port):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as session:
        session.ehlo("relay.example")
        print("250-AUTH", session.esmtp_features["auth"].strip())
        print(session.docmd("AUTH PLAIN AGFubgBzZWNyZXQ=")[0])
        for line in ("MAIL FROM:<ann@example.org>", "MAIL FROM:<ann@example.org> AUTH=<>"):
            asked.clear()
            code, _ = session.docmd(line)
            print(f"{line}: {code}{'' if asked else ', not asked'}")
            session.rset()


async def main():
    def protocol():
        return SMTP(Handler(), hostname="mx.example", authenticator=welcome, auth_require_tls=False)

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    await asyncio.to_thread(client, server.sockets[0].getsockname()[1])


asyncio.run(main())
PY
seen=$("$here/venv/bin/python" "$here/try.py" 2>/dev/null | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "250-AUTH LOGIN PLAIN / 235 / MAIL FROM:<ann@example.org>: 250 / \
MAIL FROM:<ann@example.org> AUTH=<>: 555, not asked" ]
