"""The filter ``impersonation``: the author shows a name or an address of ours, and writes from elsewhere.

    - name: looks-like-ours
      filter: impersonation
      with:
        domains: [example.com]
        names: [Ann Lee, Bob Müller]
      action: tag
      tag: {subject: "[from outside] "}

Many mail programs show only the display name of the From field. A name of the list is found in any order and
among other words ("Lee, Ann (CEO)"), without regard to case and accents. Letters of other scripts that only
look like ours are others. Whether an address of ours in From is forged is for SPF, DKIM and DMARC to say.
"""

import re
import unicodedata
from dataclasses import dataclass, field

from gatepost import Match, Transaction, Verdict, hookimpl, mailbox_key

__all__ = ["Impersonation"]

_WORDS = re.compile(r"\w+")
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"'@]{1,64}@([^\s<>()\[\],;:\"'@]{1,255})")
_DOMAIN = re.compile(r"[^\s@*/:]+\.[^\s@*/:]+|localhost")
_ENTRIES_LIMIT = 1000
"""Entries of From fields that are looked at; a message has one or a few."""


@dataclass(kw_only=True, eq=False)
class Impersonation:
    """Hits a message whose From field shows one of our names or addresses, with an address of others."""

    domains: list[str]
    """Our own domains; their subdomains are ours too."""
    names: list[str] = field(default_factory=list)
    """Names of people, as they are shown. The words of a name may be in any order and among others."""

    def __post_init__(self) -> None:
        if not self.domains:
            raise ValueError("domains: expected at least one domain like example.com")
        for domain in self.domains:
            if not _DOMAIN.fullmatch(domain):
                raise ValueError(f"domains: {domain!r}, expected a domain like example.com")
        self._domains = tuple(_domain(f"@{domain}") for domain in self.domains)
        self._names = [(name, _words(name)) for name in self.names]
        for name, words in self._names:
            if not words:
                raise ValueError(f"names: {name!r}, expected a name with letters")

    @hookimpl
    def filter_message(self, transaction: Transaction) -> Verdict | None:
        """Look at each author that a reader may show."""
        for author in transaction.message.view.addresses("From")[:_ENTRIES_LIMIT]:
            if self._is_ours(_domain(author.address)):
                continue
            shown = self._shown(author.name)
            if shown:
                return Verdict(
                    reason=f"From shows {shown}, and is <{author.address}>",
                    matches=(Match(where="header From", text=f"{author.name} <{author.address}>"),),
                )
        return None

    def _is_ours(self, domain: str) -> bool:
        return any(domain == ours or domain.endswith(f".{ours}") for ours in self._domains)

    def _shown(self, name: str) -> str:
        """The name or the address of ours that a display name contains; empty if it contains none."""
        for found in _ADDRESS.finditer(name):
            if self._is_ours(_domain(found[0])):
                return found[0]
        words = _words(name) if self._names else frozenset()
        return next((known for known, wanted in self._names if wanted <= words), "")


def _domain(address: str) -> str:
    """The domain of an address, as all spellings of it are compared."""
    return mailbox_key(address).rpartition("@")[2] if "@" in address else ""


def _words(name: str) -> frozenset[str]:
    """The words of a name without case, accents and characters that are not shown."""
    plain = unicodedata.normalize("NFKD", name)
    shown = [one for one in plain if unicodedata.category(one) not in ("Mn", "Me", "Cf", "Cc")]
    return frozenset(_WORDS.findall("".join(shown).casefold()))
