"""The filter ``arc_seal``: tells the next server what was verified here (RFC 8617)."""

import time
from dataclasses import dataclass
from pathlib import Path

from gatepost import Message, Transaction, hookimpl

from gatepost_authentication.arc import read_sets
from gatepost_authentication.canonical import split_fields
from gatepost_authentication.results import authserv_id, results_of
from gatepost_authentication.signed import parts_of
from gatepost_authentication.signing import Signer, SigningKey, seal
from gatepost_authentication.tags import TagListError

__all__ = ["ArcSeal"]

_RESULTS = "authentication-results"


@dataclass(kw_only=True, eq=False)
class ArcSeal:
    """Adds an ARC set with the results of the filter ``authentication``, as the last step before mail leaves.

    A message without these results is not sealed: an earlier rule has accepted it, so nothing was verified. A
    field that was received does not count, whatever name is in it.
    """

    authserv_id: str
    """As in the rule with the filter ``authentication``."""
    domain: str
    """The domain that seals, for example ``example.com``."""
    selector: str
    """The name of the public key: ``SELECTOR._domainkey.DOMAIN`` in DNS."""
    file: Path
    """The private key, RSA or Ed25519, in PEM format without a password."""

    def __post_init__(self) -> None:
        self._signer = Signer.of(SigningKey(domain=self.domain, selector=self.selector, file=self.file))

    @hookimpl
    def finish_message(self, transaction: Transaction, content: bytes) -> bytes | None:
        """Return the three fields of the next set; None if there is nothing to seal."""
        fields, body = parts_of(Message(content=content))
        received = {one.value for one in split_fields(transaction.message.header_section).get(_RESULTS, ())}
        results = next(
            (
                one.text
                for one in fields.get(_RESULTS, ())
                if one.value not in received and authserv_id(one.text) == self.authserv_id.lower()
            ),
            None,
        )
        if results is None:
            return None
        chain = next((result for method, result in results_of(results) if method == "arc"), "none")
        try:
            sets = read_sets(fields)
        except TagListError:
            sets = ()
        if chain not in ("none", "pass", "fail"):
            return None  # whether the chain is valid is not known now
        made = seal(
            fields, body, self._signer, sets=sets, results=results.strip(), valid=chain, now=int(time.time())
        )
        return b"".join(one.canonical("simple") for one in made) or None
