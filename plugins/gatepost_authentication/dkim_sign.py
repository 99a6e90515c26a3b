"""The filter ``dkim_sign``: a DKIM-Signature for what our users send (RFC 6376, RFC 8463)."""

import time
from dataclasses import dataclass

from gatepost import Message, hookimpl

from gatepost_authentication.canonical import Field
from gatepost_authentication.signed import author_domains, is_within, parts_of
from gatepost_authentication.signing import Signer, SigningKey, dkim_signature

__all__ = ["DkimSign"]


@dataclass(kw_only=True, eq=False)
class DkimSign:
    """Signs messages whose author is in one of our domains, as the last step before they leave."""

    keys: list[SigningKey]
    """The private keys. Those sign whose domain is the longest that the author's domain belongs to: an RSA
    and an Ed25519 key of one domain make two signatures."""

    def __post_init__(self) -> None:
        self._signers = [Signer.of(key) for key in self.keys]

    @hookimpl
    def finish_message(self, content: bytes) -> bytes | None:
        """Return a signature by each key that fits; None if the author is not of our domains, or not one."""
        message = Message(content=content)
        signers = self._signers_for(author_domains(message))
        if not signers:
            return None
        fields, body = parts_of(message)
        now = int(time.time())
        made = [dkim_signature(fields, body, signer, now=now) for signer in signers]
        return b"".join(Field(b"DKIM-Signature", value).canonical("simple") for value in made)

    def _signers_for(self, authors: list[str]) -> list[Signer]:
        if len(authors) != 1:  # of several authors DMARC asks for all of their domains
            return []
        fitting = [one for one in self._signers if is_within(authors[0], one.domain)]
        longest = max((len(one.domain) for one in fitting), default=0)
        return [one for one in fitting if len(one.domain) == longest]
