"""The section `limits`: bounds in size, number and time."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    Strict,
)

from gatepost.config.fields import (
    Count,
)
from gatepost.config.section import Settings
from gatepost.units import Bytes, Seconds

__all__ = ["Limits"]


class Limits(Settings):
    """Limits that prevent any client or message from taking the server down."""

    message_size: Bytes = 32 << 20
    """Announced with SIZE; past it 552 5.3.4."""
    header_size: Bytes = 128 << 10
    """The header section; past it 552 5.3.4."""
    line: Bytes = 1 << 20
    """One line of a message; past it 552 5.6.0."""
    command_line: Annotated[int, Strict(), Field(ge=512)] = 2048
    """One command with its CRLF; past it 500 5.5.2. (An AUTH response may have 12,288 bytes plus CRLF.)"""
    recipients: Count = 100
    """Of one transaction; past it 452 4.5.3. RFC 5321 section 4.5.3.1.8 wants at least 100."""
    connections: Count = 1000
    """Of all listeners; past it 421 4.7.0."""
    connections_per_client: Count = 100
    """From one client address; past it 421 4.7.0. Over all nodes, if `state` has the URL of a server."""
    on_error: Literal["own", "defer"] = "own"
    """While that server does not answer: each process counts its own clients, or 421 4.3.0 for all."""
    memory: Bytes = 512 << 20
    """All messages in flight, in bytes as received; past it 452 4.3.1.

    The process uses up to twice as much for them, with filters that read texts up to 4 times, 7 times if a
    text has characters beyond U+FFFF; and 256 KiB for each connection that is receiving a message.
    """
    invalid_commands: Count = 20
    """Unknown or malformed commands in a session; the last of them is answered 421 4.7.0."""
    auth_failures: Count = 3
    """Failed AUTH in a session; past it 421 4.7.0."""
    max_hops: Count = 50
    """Received fields in a message; past it 554 5.4.6, a mail loop."""
    command_time: Seconds = 300.0
    """To wait for a command (RFC 5321 section 4.5.3.2.7), for all responses of an AUTH, for a handshake."""
    data_time: Seconds = 180.0
    """To wait for the next bytes of a message (section 4.5.3.2.5)."""
    message_time: Seconds = 1800.0
    """For one whole message to arrive."""
    session_time: Seconds = 7200.0
    """For one session."""
    filter_time: Seconds = 30.0
    """All filters together on one message."""
    upstream_time: Seconds = 60.0
    """Upstream's reply to the end of data."""
    connect_time: Seconds = 10.0
    """To connect to an upstream server and receive its greeting (RFC 5321 section 4.5.3.2.1)."""
    idle_time: Seconds = 60.0
    """After which an unused upstream connection is closed."""
    reload_time: Seconds = 60.0
    """To import and make the filters at a reload; past it the old rules stay."""
    shutdown_time: Seconds = 20.0
    """For transactions in flight at SIGTERM."""
