"""A client's arrival: its address, perhaps from a PROXY header, its limit of connections, and its session."""

import logging
from datetime import UTC, datetime
from time import time_ns

from gatepost.logline import LogLine
from gatepost.model.mail import Session, new_id
from gatepost.server.clients import IPAddress, ip_address
from gatepost.server.replies import SessionEnd
from gatepost.server.wire import Wire
from gatepost.throttle import and_more
from gatepost.traffic.events import SessionOpened

__all__ = ["accept_client", "warn_of_header"]

log = logging.getLogger(__name__)

_HEADERS = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n")
"""How PROXY headers of versions 1 and 2 begin."""


async def accept_client(wire: Wire, source: str, port: int) -> tuple[Session, IPAddress | None]:
    """The session of a new connection, and the client of which the connection is counted.

    A source that may name other clients is not counted: it carries the connections of many. Raises SessionEnd
    if the client has too many connections or a PROXY header is missing.
    """
    endpoint = wire.endpoint
    wire.session_ends_at = wire.seconds_from_now(endpoint.limits.session_time)
    client = ip_address(source)
    if endpoint.is_proxy(client):
        from gatepost.server.proxy_header import read_client  # noqa: PLC0415 - it brings attrs in: 1 MB

        client, port = await read_client(wire) or (client, port)
    counted = None if endpoint.trusts(client) else client
    if counted and (refusal := await endpoint.connections.enter_client(counted)):
        raise SessionEnd(None if endpoint.implicit_tls else refusal)
    wire.session_id = new_id()
    if tap := endpoint.tap:
        wire.tap = tap
        tap(
            SessionOpened(
                at=time_ns() // 1000,
                session_id=wire.session_id,
                client=client,
                client_port=port,
                listener=endpoint.name,
            )
        )
    session = Session(
        id=wire.session_id,
        client=client,
        client_port=port,
        listener=endpoint.name,
        connected_at=datetime.now(UTC),
    )
    return session, counted


def warn_of_header(wire: Wire, source: IPAddress) -> None:
    """Log a PROXY header of a source from which none is read, once an hour for each listener.

    It may be a stranger's. If it is a load balancer's, its clients are refused, or taken for the balancer.
    """
    endpoint = wire.endpoint
    if not any(map(wire.begins_with, _HEADERS)):
        return
    left_out = endpoint.headers_missing.admit("from a source that is not listed")
    if left_out is not None:
        more = and_more(left_out, "more connections")
        text = (
            f"listener {endpoint.name}: a PROXY header from {source}, which is not in proxy_protocol_from, "
            f"is not read. If it is your load balancer, add it{more}"
        )
        log.warning(LogLine(text, listener=endpoint.name, source=str(source)))
