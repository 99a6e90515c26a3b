"""Types of settings that several sections share: hosts, files, networks, names."""

import grp
import os
import pwd
import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from gatepost import reply_template
from gatepost.config.lists import LIST_NAME
from gatepost.config.patterns import expected, network

_HOSTNAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _is_ip(text: str, version: int) -> bool:
    try:
        return ip_address(text).version == version
    except ValueError:
        return False


def _is_hostname(text: str) -> bool:
    return len(text) <= 253 and _HOSTNAME.fullmatch(text) is not None


def check_hostname(value: Any) -> Any:
    """A domain name, or an address literal (RFC 5321 section 4.1.3)."""
    if isinstance(value, str):
        inside = value[1:-1] if value.startswith("[") and value.endswith("]") else ""
        if _is_ip(inside, 4) or _is_ip(inside.removeprefix("IPv6:"), 6) or _is_hostname(value):
            return value
    raise expected("a domain name like mx.example.com")


def check_user(name: str) -> str:
    """A user of this machine."""
    return _known(pwd.getpwnam, name, "a user of this machine")


def check_group(name: str) -> str:
    """A group of this machine."""
    return _known(grp.getgrnam, name, "a group of this machine")


def _known(look_up: Callable[[str], object], name: str, what: str) -> str:
    try:
        look_up(name)
    except (KeyError, ValueError):
        raise expected(what) from None
    return name


def machine_name() -> str:
    """The machine's own name, ``localhost`` where that is no domain name."""
    name = socket.gethostname()
    return name if _is_hostname(name) else "localhost"


def check_upstream_host(value: str) -> str:
    """A host name or an address, without brackets."""
    if not (_is_hostname(value) or _is_ip(value, 6)):
        raise expected("a host name or an address")
    return value


def check_host_port(value: Any) -> Any:
    """``host:port``, IPv6 in brackets."""
    found = _HOST_PORT.fullmatch(value) if isinstance(value, str) else None
    if (
        found
        and int(found["port"]) <= 65535
        and (_is_ip(found["ipv6"] or "", 6) or _is_hostname(found["host"] or ""))
    ):
        return value
    raise expected("host:port like 127.0.0.1:2525 or [::1]:2525")


def first_line(path: Path) -> str:
    """Of a file that holds a password; raises OSError, and ValueError where it is no text."""
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and addresses that only this machine reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def at_base(value: Path, info: ValidationInfo) -> Path:
    """Relative to rules.yaml where the settings come from there."""
    return info.context["base"] / value if info.context else value


def _existing(value: Path, info: ValidationInfo) -> Path:
    path = at_base(value, info)
    if info.context and not _is_readable(path):
        raise expected("a file that exists and can be read")
    return path


def _is_readable(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except (OSError, ValueError):
        return False


def check_authorities(value: Path, info: ValidationInfo) -> Path:
    """A PEM file of certificates, as far as it can be read."""
    if info.context:
        import ssl  # noqa: PLC0415 - few settings name authorities

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
        except (OSError, ValueError):
            raise expected("a PEM file of certificates") from None
    return value


def store_url(value: str, info: ValidationInfo) -> str:
    """A relative path is relative to rules.yaml. A wrong URL is not shown: it may hold a password."""
    scheme, separator, file = value.partition(":///")
    if scheme != "sqlite" or not separator or "?" in file or file in ("", ":memory:"):
        raise ValueError("not the URL of a store, expected sqlite:///FILE like sqlite:///gatepost.db")
    return f"sqlite:///{(info.context['base'] / file).absolute()}" if info.context else value


def one_or_many(value: Any) -> Any:
    """A value alone is a list of one; an empty list is a mistake."""
    if isinstance(value, list | tuple):
        if not value:
            raise expected("at least one entry")
        return value
    return (value,)


def _client(value: Any) -> Any:
    if value == "authenticated":
        return value
    try:
        return network(value)
    except PydanticCustomError as error:
        raise expected(f"authenticated, {error}") from error


def file_or_any(value: Any) -> Any:
    """The word alone, as the union with a path would take it for a file's name."""
    return "any" if value == "any" else Path(value) if isinstance(value, str) else value


def check_rule_name(value: str) -> str:
    """A name that is safe in replies, logs and header fields."""
    if not _RULE_NAME.fullmatch(value):
        raise expected("a name of letters, digits, '.', '_' and '-', at most 64, a letter or digit first")
    return value


def check_list_name(value: str) -> str:
    """A name that ``$name`` can refer to."""
    if not re.fullmatch(LIST_NAME, value, re.ASCII):
        raise expected("a list's name of letters, digits, '_' and '-', at most 64, a letter first")
    return value


def check_reply(value: str) -> str:
    """A reply template."""
    reply_template.check(value)
    return value


Bool = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
File = Annotated[Path, AfterValidator(_existing)]
"""A path relative to rules.yaml, of a file that exists."""
Client = Annotated[IPv4Network | IPv6Network | Literal["authenticated"], BeforeValidator(_client)]
Source = Annotated[IPv4Network | IPv6Network, BeforeValidator(network)]
