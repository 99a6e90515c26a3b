"""The section `dns`: which name servers filters ask."""

from typing import Annotated

from pydantic import BeforeValidator

from gatepost.config.fields import check_dns_server
from gatepost.config.section import Settings
from gatepost.units import Seconds

__all__ = ["DnsSettings"]


class DnsSettings(Settings):
    """DNS, for filters."""

    servers: tuple[Annotated[str, BeforeValidator(check_dns_server)], ...] = ()
    """Name servers as ``address`` or ``address:port``; default: those of ``/etc/resolv.conf``."""
    timeout: Seconds = 5.0
    """The time for one question, over all servers and tries."""
