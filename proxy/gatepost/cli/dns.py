"""``gatepost dns``: what the gateway's filters are told by DNS."""

import asyncio
import time
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatepost.cli.errors import cli_errors, fail
from gatepost.printable import printable

if TYPE_CHECKING:
    from gatepost.config.dns import DnsSettings

__all__ = ["dns"]


class RecordType(StrEnum):
    """The types of records that filters ask for."""

    A = "A"
    AAAA = "AAAA"
    MX = "MX"
    TXT = "TXT"
    PTR = "PTR"


_TYPES_OF_A_NAME = (RecordType.A, RecordType.AAAA, RecordType.MX, RecordType.TXT)


def dns(
    name: Annotated[
        str, typer.Argument(help="A name, or an IP address for its names (PTR).", metavar="NAME")
    ],
    record_type: Annotated[
        RecordType | None,
        typer.Argument(
            help="A, AAAA, MX, TXT or PTR; default: all but PTR.",
            metavar="[TYPE]",
            case_sensitive=False,
            show_default=False,
        ),
    ] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file.", metavar="FILE")] = Path(
        "rules.yaml"
    ),
) -> None:
    """Ask DNS as the filters of the gateway do: the same servers, and the same time (`dns` in rules.yaml).

    Each answer is printed with its status, its time and its records. Exit status 1 if there was no answer
    (failed, timed out), else 0, also for a name that does not exist.
    """
    from gatepost.config import load  # noqa: PLC0415 - pydantic is slow to import

    asked, types = _question(name, record_type)
    with cli_errors():
        settings = load(config).config.dns
    temporary = asyncio.run(_ask(asked, types, settings))
    if temporary:
        servers = ", ".join(settings.servers) or "those of /etc/resolv.conf"
        fail(f"no usable answer; the name servers are {servers}")


def _question(name: str, record_type: RecordType | None) -> tuple[str, list[RecordType]]:
    """The name in A-labels, and the types of records to ask for."""
    from gatepost.model.addresses import mailbox  # noqa: PLC0415 - idna is slow to import

    try:
        pointer = ip_address(name).reverse_pointer
    except ValueError:
        domain = mailbox(f"postmaster@{name}").domain
        return domain, [record_type] if record_type else [*_TYPES_OF_A_NAME]
    if record_type not in (None, RecordType.PTR):
        raise typer.BadParameter(f"{record_type} of an address, expected PTR or no type", param_hint="TYPE")
    return pointer, [RecordType.PTR]


async def _ask(name: str, types: list[RecordType], settings: "DnsSettings") -> bool:
    """Ask one after the other; True if one had no answer."""
    from gatepost.dns import Answer, Resolver  # noqa: PLC0415
    from gatepost.dns.cares import Cares  # noqa: PLC0415

    channel = Cares(settings.servers)
    ttl_seconds = 0.0

    async def ask(name: str, kind: str) -> tuple[Answer, float]:
        nonlocal ttl_seconds
        answer, ttl_seconds = await channel.ask(name, kind)
        return answer, ttl_seconds

    resolver = Resolver(timeout_seconds=settings.timeout, ask=ask)
    temporary = False
    for kind in types:
        begin = time.monotonic()
        answer = await resolver.look_up(name, kind.value)
        took = f"{(time.monotonic() - begin) * 1000:.0f} ms"
        ttl = f", TTL {ttl_seconds:.0f} s" if answer.records else ""
        print(f"{printable(name)} {kind}: {answer.status}, {took}{ttl}")
        for record in answer.records:
            print(f"  {_shown(record)}")
        temporary |= answer.status.is_temporary
    await channel.close()
    return temporary


def _shown(record: Any) -> str:
    """A record on one line, as zone files have it."""
    match record:
        case bytes():
            return f'"{printable(record.decode("utf-8", "backslashreplace"))}"'
        case (preference, exchange):
            return f"{preference} {printable(exchange) or '.'}"
        case _:
            return printable(record)
