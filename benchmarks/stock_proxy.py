"""The yardstick: aiosmtpd and aiosmtplib as their manuals show them, an upstream connection a message.

python stock_proxy.py LISTEN_PORT UPSTREAM_PORT
"""

import asyncio
import sys

import aiosmtplib  # noqa: TID251 - this is what we measure against
import uvloop
from aiosmtpd.smtp import SMTP  # noqa: TID251


class Forward:
    def __init__(self, port):
        self.port = port

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        await aiosmtplib.send(
            envelope.content,
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            hostname="127.0.0.1",
            port=self.port,
            start_tls=False,
        )
        return "250 OK"


async def main(listen_port, upstream_port):
    loop = asyncio.get_running_loop()
    handler = Forward(upstream_port)
    server = await loop.create_server(
        lambda: SMTP(handler, hostname="stock", loop=loop), "127.0.0.1", listen_port
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
