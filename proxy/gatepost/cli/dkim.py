"""``gatepost dkim``: a key for DKIM or ARC, and the record for DNS."""

import base64
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import cli_errors, fail
from gatepost.printable import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make a key that signs mail, and its record for DNS.")

_SELECTOR = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_STRING_LIMIT = 255
"""Bytes in one string of a TXT record (RFC 1035 section 3.3)."""


class KeyType(StrEnum):
    """The kinds of keys."""

    RSA = "rsa"
    ED25519 = "ed25519"


@app.callback()
def _group() -> None:
    pass


@app.command("new", short_help="Make a private key, and print its record for DNS.")
def new(
    domain: Annotated[
        str, typer.Argument(help="The domain that signs, for example example.com.", metavar="DOMAIN")
    ],
    file: Annotated[
        Path, typer.Option("--file", "-f", help="Where to write the private key.", metavar="FILE")
    ],
    selector: Annotated[
        str,
        typer.Option("--selector", "-s", help="The key's name in DNS, for example s2026.", metavar="NAME"),
    ],
    key_type: Annotated[
        KeyType, typer.Option("--type", help="rsa: every receiver knows it; ed25519: short, only some do.")
    ] = KeyType.RSA,
) -> None:
    """Make a private key for the filters dkim_sign and arc_seal, and print its record for DNS.

    The key is written to a new file that only its owner can read; a file that exists is not changed. An RSA
    key has 2048 bits (RFC 8301). Give each new key a selector of its own: mail that is on its way still needs
    the old record.
    """
    from gatepost.model.addresses import mailbox  # noqa: PLC0415

    name = mailbox(f"postmaster@{domain}").domain
    if not re.fullmatch(r"(?:[a-z0-9_-]{1,63}\.)+[a-z0-9-]{2,63}", name, re.ASCII) or len(name) > 253:
        raise typer.BadParameter(f"{domain!r}, expected a domain like example.com", param_hint="DOMAIN")
    if not _SELECTOR.fullmatch(selector):
        raise typer.BadParameter(f"{selector!r}, expected a name like s2026", param_hint="--selector")
    key = _made(key_type)
    with cli_errors():
        try:
            _write(file, key)
        except FileExistsError:
            fail(f"{printable(str(file))} exists; nothing was changed")
    print(f"; the private key is in {printable(str(file))}; add this to the zone of {name}:")
    print(f"{selector}._domainkey.{name}. 3600 IN TXT ( {' '.join(_strings(_record(key_type, key)))} )")


def _made(key_type: KeyType) -> "RSAPrivateKey | Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa  # noqa: PLC0415

    if key_type is KeyType.RSA:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ed25519.Ed25519PrivateKey.generate()


def _write(file: Path, key: "RSAPrivateKey | Ed25519PrivateKey") -> None:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
        written.write(octets)


def _record(key_type: KeyType, key: "RSAPrivateKey | Ed25519PrivateKey") -> str:
    """The key record (RFC 6376 section 3.6.1); of an Ed25519 key the bare 32 bytes (RFC 8463 section 4)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    public = key.public_key()
    if key_type is KeyType.RSA:
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"v=DKIM1; k={key_type}; p={base64.b64encode(octets).decode()}"


def _strings(text: str) -> list[str]:
    """The strings of a TXT record, as a zone file has them."""
    return [f'"{text[at : at + _STRING_LIMIT]}"' for at in range(0, len(text), _STRING_LIMIT)]
