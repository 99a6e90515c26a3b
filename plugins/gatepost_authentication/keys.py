"""The public keys of signatures: how they are published (RFC 6376 section 3.6, RFC 8463) and looked up."""

from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from gatepost import Answer, Resolver

from gatepost_authentication.tags import TagListError, decode_base64, parse_tags, without_space

__all__ = ["Key", "KeyUnavailableError", "KeyUnusableError", "fetch_key", "parse_key"]

_LEAST_BITS = 1024
"""RFC 8301 section 3.2."""
_MOST_BITS = 8192
"""A longer key takes too much time; common ones have 2048 bits."""
_MOST_EXPONENT = 1 << 33


class KeyUnavailableError(Exception):
    """DNS does not answer now: the signature can be verified later."""


class KeyUnusableError(Exception):
    """There is no key for this signature; the text tells a person why."""

    def __init__(self, reason: str, *, policy: bool = False) -> None:
        super().__init__(reason)
        self.policy = policy
        """True if the key is valid, but too small or too large to be accepted."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, with the restrictions of its record."""

    public: Any
    algorithm: str
    """``rsa`` or ``ed25519``."""
    bits: int
    hashes: tuple[str, ...]
    """The hash algorithms that it may be used with; empty for all."""
    strict: bool
    """True if the identity's domain must be the signing domain itself (``t=s``)."""
    testing: bool
    """True if the domain is testing DKIM (``t=y``)."""

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """True if the signature over ``signed``, hashed with SHA-256, was made with this key."""
        try:
            if self.algorithm == "rsa":
                self.public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            else:
                digest = hashes.Hash(hashes.SHA256())
                digest.update(signed)
                self.public.verify(signature, digest.finalize())
        except InvalidSignature:
            return False
        return True


async def fetch_key(resolver: Resolver, selector: str, domain: str) -> Key:
    """Look up the key of a selector; raises `KeyUnavailableError` or `KeyUnusableError`."""
    name = f"{selector}._domainkey.{domain}"
    answer: Answer = await resolver.look_up(name, "TXT")
    if answer.status.is_temporary:
        raise KeyUnavailableError(f"{name}: {answer.status}")
    records = [record.decode("utf-8", "replace") for record in answer.records]
    if not records:
        raise KeyUnusableError(f"no key at {name}")
    if len(records) > 1:
        records = [record for record in records if "p=" in without_space(record)]
        if len(records) != 1:
            raise KeyUnusableError(f"several keys at {name}" if records else f"no key at {name}")
    return parse_key(records[0])


def parse_key(record: str) -> Key:
    """The key of a record; raises `KeyUnusableError`."""
    try:
        tags = parse_tags(record)
        octets = decode_base64(tags["p"])
    except TagListError as error:
        raise KeyUnusableError(f"the key's record is invalid: {error}") from None
    except KeyError:
        raise KeyUnusableError("the key's record is invalid: it has no tag p") from None
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise KeyUnusableError("the key's record is invalid: its first tag is not v=DKIM1")
    if not octets:
        raise KeyUnusableError("the key is revoked")
    services = without_space(tags.get("s", "*")).split(":")
    if "*" not in services and "email" not in services:
        raise KeyUnusableError("the key is not for mail")
    algorithm = tags.get("k", "rsa").lower()
    flags = without_space(tags.get("t", "")).split(":")
    public, bits = _load(algorithm, octets)
    return Key(
        public,
        algorithm,
        bits,
        tuple(without_space(tags["h"]).lower().split(":")) if "h" in tags else (),
        "s" in flags,
        "y" in flags,
    )


def _load(algorithm: str, octets: bytes) -> tuple[Any, int]:
    if algorithm == "ed25519":
        if len(octets) != 32:
            raise KeyUnusableError("the key is invalid: an Ed25519 key has 32 bytes")
        return ed25519.Ed25519PublicKey.from_public_bytes(octets), 256
    if algorithm != "rsa":
        raise KeyUnusableError(f"the key's type is unknown: {algorithm[:20]}")
    if len(octets) > _MOST_BITS // 4:
        raise KeyUnusableError("the key is too large", policy=True)
    try:
        public = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusableError("the key is invalid") from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise KeyUnusableError("the key is invalid: it is not an RSA key")
    if public.key_size > _MOST_BITS or public.public_numbers().e > _MOST_EXPONENT:
        raise KeyUnusableError(f"the key is too large: {public.key_size} bits", policy=True)
    if public.key_size < _LEAST_BITS:
        raise KeyUnusableError(f"the key is too small: {public.key_size} bits", policy=True)
    return public, public.key_size
