"""A client's arrival: its address, perhaps from a PROXY header, its limit of connections, and its session."""

from datetime import UTC, datetime
from time import time_ns

from gatepost.model.mail import Session, new_id
from gatepost.server.endpoint import IPAddress, ip_address
from gatepost.server.replies import SessionEnd
from gatepost.server.wire import Wire
from gatepost.traffic.events import SessionOpened

__all__ = ["accept_client"]


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
