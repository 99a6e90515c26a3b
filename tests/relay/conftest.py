"""A relay that is closed after the test, and mail to send with it."""

import asyncio
from dataclasses import dataclass

import pytest
import uvloop
from gatepost.config.limits import Limits
from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Envelope, Recipient
from gatepost.model.verdict import Reply
from gatepost.relay import Delivered, Delivery, Relay


def pytest_asyncio_loop_factories(config, item):
    """The gateway's event loop; at full length asyncio's own too."""
    more = {"asyncio": asyncio.SelectorEventLoop} if config.getoption("--long") else {}
    return {"uvloop": uvloop.new_event_loop, **more}


@dataclass
class Posted:
    replies: list[Reply]
    delivered: Delivered | None

    @property
    def codes(self):
        return [reply.code for reply in self.replies]

    @property
    def end(self):
        """Code and enhanced code of what the client hears last."""
        reply = self.delivered.reply if self.delivered else self.replies[-1]
        return reply.code, reply.enhanced

    @property
    def state(self):
        return self.delivered.state if self.delivered else None


class Post:
    """Sends mail as the gateway does."""

    def __init__(self, relay: Relay, seconds: float) -> None:
        self.relay = relay
        self.seconds = seconds

    def begin(self, *upstreams, mail_from="a@example.com", parameters=()) -> Delivery:
        servers = tuple(self.server(upstream) for upstream in upstreams)
        return self.relay.begin(servers, Envelope(mail_from=mail_from, parameters=parameters))

    def recipients(self, *addresses):
        return tuple(Recipient(address=a) if isinstance(a, str) else a for a in addresses)

    def server(self, upstream) -> UpstreamServer:
        if isinstance(upstream, UpstreamServer):
            return upstream
        return UpstreamServer.model_validate(upstream if isinstance(upstream, str) else upstream.url)

    async def send(self, delivery, recipients, content=b"Subject: hello\r\n\r\nHello\r\n", *, seconds=None):
        deadline = asyncio.get_running_loop().time() + (seconds or self.seconds)
        pieces = content if isinstance(content, tuple) else (content,)
        return await delivery.send(self.recipients(*recipients), pieces, deadline=deadline)

    async def __call__(self, *upstreams, recipients=("b@example.com",), content=None, **envelope) -> Posted:
        """One transaction: RCPT for each, then the message to those whom upstream accepted."""
        delivery = self.begin(*upstreams, **envelope)
        recipients = self.recipients(*recipients)
        replies = [await delivery.rcpt(recipient) for recipient in recipients]
        accepted = [r for r, reply in zip(recipients, replies, strict=True) if reply.positive]
        delivered = None
        if accepted:
            more = () if content is None else (content,)
            delivered = await self.send(delivery, accepted, *more)
        else:
            await delivery.abandon()
        return Posted(replies, delivered)


@pytest.fixture
async def make_post():
    relays = []

    def make(**limits) -> Post:
        limits = Limits(**limits)
        relays.append(Relay(hostname="gateway.example", limits=limits))
        return Post(relays[-1], limits.upstream_time)

    yield make
    for relay in relays:
        await relay.close()


@pytest.fixture
def post(make_post) -> Post:
    return make_post()


@pytest.fixture
def hasty_post(make_post) -> Post:
    """Waits for nothing longer than a second."""
    return make_post(connect_time=1, upstream_time=1)
