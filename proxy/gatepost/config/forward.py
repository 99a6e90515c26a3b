"""The section `web.forward`: the server to which the web desk can forward a message, and for whom."""

from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, model_validator

from gatepost.config.fields import one_or_many
from gatepost.config.patterns import AddressPatterns, check_address_pattern, expected
from gatepost.config.relay import UpstreamServer
from gatepost.config.section import Settings
from gatepost.model.addresses import mailbox

__all__ = ["ForwardServer", "ForwardSettings"]


class ForwardServer(UpstreamServer):
    """A server as in `relay`."""

    wanted: ClassVar[str] = "a server like smtp://mail.example.com:25"


def _sender(value: Any) -> str:
    """An address without brackets; ``<>`` is the null reverse-path."""
    if value == "<>":
        return ""
    if not isinstance(value, str) or value == "*" or check_address_pattern(value) != value or "*" in value:
        raise expected("an address like test@example.com, or <>")
    return value


class ForwardSettings(Settings):
    """Where a message of the desk can be forwarded to; also written as the server alone."""

    to: Annotated[tuple[ForwardServer, ...], BeforeValidator(one_or_many)]
    """Servers that are tried in order."""
    recipients: (
        Annotated[
            tuple[Annotated[str, BeforeValidator(check_address_pattern)], ...], BeforeValidator(one_or_many)
        ]
        | None
    ) = None
    """Patterns of the recipients that are allowed, as in `relay`; default: all."""
    sender: Annotated[str, BeforeValidator(_sender)] | None = None
    """The reverse-path to send with; default: that of the message."""

    @model_validator(mode="before")
    @classmethod
    def _from_server(cls, value: Any) -> Any:
        return {"to": value} if isinstance(value, str | list) else value

    @cached_property
    def _allowed(self) -> AddressPatterns:
        return AddressPatterns(self.recipients or ())

    def allows(self, recipient: str) -> bool:
        """True if a message may be forwarded to this address.

        With patterns, an address whose local part may ask the server to send the mail on is not allowed,
        for example ``stranger%elsewhere.example@example.com``.
        """
        if self.recipients is None:
            return True
        wanted = mailbox(recipient)
        return not wanted.sender_routed and self._allowed.take(wanted)

    def __str__(self) -> str:
        """The servers, as ``host:port``."""
        return ", ".join(map(str, self.to))
