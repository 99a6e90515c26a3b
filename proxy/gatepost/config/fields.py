"""Types of settings that several sections share: hosts, files, networks, names."""

import grp
import importlib.util
import os
import pwd
import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from gatepost.config.lists import LIST_NAME
from gatepost.config.patterns import expected, network
from gatepost.model import reply_template

_HOSTNAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_EXPECTED = "a name of at most 64 letters, digits, '.', '_' and '-' that begins with a letter or digit"


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
    """The machine's own name, or ``localhost`` if that is not a domain name."""
    name = socket.gethostname()
    return name if _is_hostname(name) else "localhost"


def check_node(value: str) -> str:
    """The name of a node, which must be safe in a log, in labels of metrics, in queries and in Received."""
    if not _RULE_NAME.fullmatch(value):
        raise expected(_NAME_EXPECTED)
    return value


def node_name() -> str:
    """The machine's own name, as far as it can be a node's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).lstrip("._-")[:64]
    return name or "localhost"


def check_upstream_host(value: str) -> str:
    """A host name or an address, without brackets."""
    if not (_is_hostname(value) or _is_ip(value, 6)):
        raise expected("a host name or an address")
    return value


def is_host_port(value: Any) -> bool:
    """True for ``host:port``, with IPv6 in brackets."""
    found = _HOST_PORT.fullmatch(value) if isinstance(value, str) else None
    return (
        found is not None
        and int(found["port"]) <= 65535
        and (_is_ip(found["ipv6"] or "", 6) or _is_hostname(found["host"] or ""))
    )


def check_host_port(value: Any) -> Any:
    """``host:port``, IPv6 in brackets."""
    if is_host_port(value):
        return value
    raise expected("host:port like 127.0.0.1:2525 or [::1]:2525")


def check_dns_server(value: Any) -> Any:
    """``address:port`` of a name server; the port may be left out."""
    if isinstance(value, str):
        if _is_ip(value, 4) or _is_ip(value, 6):
            return f"[{value}]:53" if ":" in value else f"{value}:53"
        found = _HOST_PORT.fullmatch(value)
        host = found and (found["ipv6"] or found["host"])
        if found and host and (_is_ip(host, 4) or _is_ip(host, 6)) and 0 < int(found["port"]) <= 65535:
            return value
    raise expected("the IP address of a name server like 127.0.0.1 or 127.0.0.1:53")


def first_line(path: Path) -> str:
    """The first line of a password file; raises OSError, and ValueError if the file is not text."""
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and addresses that only this machine can reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def at_base(value: Path, info: ValidationInfo) -> Path:
    """The path, relative to rules.yaml if the settings come from there."""
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
    """The path, if it is a PEM file of certificates."""
    if info.context:
        import ssl  # noqa: PLC0415 - few settings name authorities

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
        except (OSError, ValueError):
            raise expected("a PEM file of certificates") from None
    return value


_SERVER_URL = re.compile(r"(?:postgresql|postgres)://[^\s]+")
_URL_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@")  # as libpq finds it
_BESIDE_RULES = Path("gatepost.db")


def store_file(url: str) -> Path:
    """The database file of a store's URL, relative or absolute; other files are made beside it.

    Of a store on a server, a name for those beside rules.yaml. Raises ValueError, in which a wrong URL is not
    shown: it may hold a password.
    """
    if _SERVER_URL.fullmatch(url):
        return _BESIDE_RULES
    scheme, separator, file = url.partition(":///")
    if scheme != "sqlite" or not separator or "?" in file or file in ("", ":memory:"):
        raise ValueError(
            "not a store URL, expected one like sqlite:///gatepost.db or postgresql://USER@HOST/DATABASE"
        )
    return Path(file)


def store_url(value: str, info: ValidationInfo) -> str:
    """A relative path is relative to rules.yaml."""
    file = store_file(value)
    if file is _BESIDE_RULES:
        options = {unquote(one.partition("=")[0]) for one in value.partition("?")[2].split("&")}
        if _URL_PASSWORD.search(value) or "password" in options:
            raise ValueError("a password in the URL, expected it in password_file")
        if info.context and importlib.util.find_spec("psycopg") is None:
            raise ValueError("psycopg is not installed, expected: pip install 'gatepost[postgres]'")
        return value
    return f"sqlite:///{(info.context['base'] / file).absolute()}" if info.context else value


def one_or_many(value: Any) -> Any:
    """The value as a list; a single value becomes a list of one, an empty list is an error."""
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
    """``any`` or a path; without this, pydantic would take ``any`` for a path."""
    return "any" if value == "any" else Path(value) if isinstance(value, str) else value


def check_rule_name(value: str) -> str:
    """The rule's name, which must be safe in replies, logs and header fields."""
    if not _RULE_NAME.fullmatch(value):
        raise expected(_NAME_EXPECTED)
    return value


def check_list_name(value: str) -> str:
    """The list's name, which ``$name`` must be able to refer to."""
    if not re.fullmatch(LIST_NAME, value, re.ASCII):
        raise expected("a name of at most 64 letters, digits, '_' and '-' that begins with a letter")
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
