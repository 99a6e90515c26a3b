"""For generated letters, this filter and other implementations have the same results.

The others are mailauth (all methods), dkimpy (DKIM, ARC), OpenDKIM (DKIM) and OpenDMARC (DMARC). Each
difference is in `EXPLAINED` with its reason. A report names the letter's features, see `peers/twists.py`.
"""

import asyncio
import ctypes.util
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from beside import PEERS, asked, name_server, ours  # it is where it was put just now
from twists import TWISTS, letters

MODULES = Path(__file__).parents[2] / "node_modules"
INSTALLED = {
    "mailauth": lambda: shutil.which("node") and (MODULES / "mailauth").exists(),
    "dkimpy": lambda: True,
    "opendkim": lambda: ctypes.util.find_library("opendkim"),
    "opendmarc": lambda: ctypes.util.find_library("opendmarc"),
}


@dataclass(frozen=True, slots=True)
class Explained:
    """A difference with its reason; the texts are expressions that match the whole."""

    reason: str
    peers: str
    features: str
    """One of the letter's features."""
    method: str
    ours: str = ".*"
    theirs: str = ".*"

    def covers(self, one: "Difference") -> bool:
        return (
            one.peer in self.peers.split()
            and one.method == self.method
            and any(re.fullmatch(self.features, feature) for feature in one.features)
            and re.fullmatch(self.ours, one.ours) is not None
            and re.fullmatch(self.theirs, one.theirs) is not None
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Two results for one method of one letter."""

    peer: str
    method: str
    features: frozenset[str]
    ours: str
    theirs: str


EXPLAINED = (
    # DKIM and keys
    Explained(
        "a length beyond the body's end is an error (RFC 6376 section 3.5)",
        "mailauth dkimpy",
        "l long",
        "dkim",
    ),
    Explained("rsa-sha1 must not pass (RFC 8301)", "dkimpy opendkim", "a sha1", "dkim"),
    Explained("dkimpy takes the algorithm from the key", "dkimpy", "a of another key", "dkim"),
    Explained("a signature must cover From (RFC 6376 section 5.4)", "dkimpy", "From unsigned", "dkim"),
    Explained(
        "a From field that was added is not covered",
        "mailauth opendkim",
        "From added",
        "dkim",
        "fail",
        "pass",
    ),
    Explained(
        "a wrong clock is no reason to fail", "dkimpy opendkim", "from the future", "dkim", "pass", "fail"
    ),
    Explained("t=s of a key is not obeyed", "dkimpy", "i subdomain, strict key", "dkim", "fail", "pass"),
    Explained("h= of a key is not obeyed", "dkimpy", "key sha1", "dkim", "fail", "pass"),
    Explained(
        "v= must be the first tag of a key (RFC 6376 section 3.6.1)", "dkimpy opendkim", "key late", "dkim"
    ),
    Explained(
        "of two keys none is chosen; RFC 6376 section 3.6.2.2 leaves it open; OpenDKIM's file has one only",
        "mailauth dkimpy opendkim",
        "key two",
        "dkim",
        "fail",
        "pass",
    ),
    Explained(
        "other text beside a key is ignored; dkimpy and OpenDKIM's file have the first record only",
        "mailauth dkimpy opendkim",
        "key beside",
        "dkim",
        "pass",
        "fail",
    ),
    Explained(
        "no other result than fail; OpenDKIM's file has no failures", "dkimpy opendkim", "key broken", "dkim"
    ),
    Explained(
        "a blank before the colon is obsolete syntax", "dkimpy", "names changed", "dkim", "pass", "fail"
    ),
    Explained(
        "at most ten signatures are verified",
        "mailauth opendkim",
        "twelve",
        "dkim",
        "(pass ?){10}",
        "(pass ?){12}",
    ),
    Explained(
        "a signature that is not valid is not listed", "opendkim", "no [abdhsv]|t wrong", "dkim", "fail", ""
    ),
    # ARC
    Explained(
        "a chain that does not cover the whole body fails", "mailauth dkimpy", "arc l", "arc", "fail", "pass"
    ),
    Explained(
        "it passes, and does not excuse the author", "mailauth", "arc From unsigned", "arc", "pass", "fail"
    ),
    Explained("RFC 8617 has no temperror", "mailauth dkimpy", "arc key broken", "arc", "temperror", "fail"),
    Explained("dkimpy verifies RSA only in chains", "dkimpy", "arc ed key", "arc", "pass", "fail"),
    Explained(
        "dkimpy raises an exception", "dkimpy", "arc blank before semicolon", "arc", "pass", "IndexError"
    ),
    Explained("dkimpy raises an exception", "dkimpy", "arc cv fail", "arc", "fail", "AttributeError"),
    Explained("dkimpy raises an exception", "dkimpy", "names changed", "arc", "none", "MessageFormatError"),
    # DMARC, where the results for DKIM differ
    Explained("see DKIM", "mailauth", "key two", "dmarc", "fail .*", "pass"),
    Explained("see DKIM", "mailauth", "key beside", "dmarc", "pass", "fail .*"),
    Explained(
        "a signature over a part of the body does not count",
        "mailauth",
        "l part.*",
        "dmarc",
        "fail .*",
        "pass",
    ),
    Explained(
        "an answer that is missing could make it a pass",
        "mailauth opendmarc",
        "key broken",
        "dmarc",
        "temperror",
        "fail .*",
    ),
    # DMARC, authors
    Explained(
        "of two authors each is judged", "mailauth", "From added|two authors", "dmarc", "fail .*", "permerror"
    ),
    Explained(
        "an author without a domain is an error",
        "mailauth opendmarc",
        "From without domain|From address literal",
        "dmarc",
        "permerror",
        "none",
    ),
    Explained("no author is an error", "opendmarc", "no From", "dmarc", "permerror", "none"),
    # DMARC, where OpenDMARC is of RFC 7489 or does not follow it
    Explained(
        "RFC 7489 has no t=y",
        "opendmarc",
        "author testing.example",
        "dmarc",
        "fail quarantine",
        "fail reject",
    ),
    Explained(
        "RFC 7489 has no np=", "opendmarc", "policy of missing subdomain", "dmarc", "fail reject", "fail none"
    ),
    Explained(
        "an error in the record ends it",
        "opendmarc",
        "author bogus.example|policy bad sp",
        "dmarc",
        theirs="Found.*",
    ),
    Explained("RFC 7489 has no psd=y", "opendmarc", "policy psd, neighbour", "dmarc", "fail reject", "pass"),
    Explained("a record needs p=", "opendmarc", "policy rua only", "dmarc", "fail none", "Found.*"),
    Explained(
        "the first of two records is taken", "opendmarc", "policy twice", "dmarc", "none", "fail reject"
    ),
    Explained(
        "only the first TXT record is read", "opendmarc", "policy beside", "dmarc", "fail reject", "none"
    ),
    Explained("v= may be anywhere", "opendmarc", "policy late", "dmarc", "none", "fail reject"),
    Explained(
        "another word",
        "opendmarc",
        "policy SERVFAIL",
        "dmarc",
        "temperror",
        "DNS lookup of domain tempfailed",
    ),
    Explained(
        "strict alignment is not followed within one organization",
        "opendmarc",
        "author strict.example|policy strict, .*",
        "dmarc",
        "fail reject",
        "pass",
    ),
)


@pytest.fixture(scope="module")
def server():
    with name_server() as address:
        yield address


@pytest.fixture(scope="module")
def sent():
    return [*letters(2 * len(TWISTS), seed=1)]


@pytest.fixture(scope="module")
def evidence(sent, server):
    return asyncio.run(ours(sent, server))


def shown(method, result):
    """The result as it can be compared: implementations differ in what they call a signature that fails."""
    if method != "dkim":
        return result
    return " ".join(one if one in ("pass", "temperror") else "fail" for one in result if one != "none")


def own(found):
    dmarc = found.dmarc
    return {
        "spf": found.spf.result,
        "dkim": [one.result for one in found.dkim],
        "arc": found.arc.result,
        "dmarc": f"fail {dmarc.disposition}" if dmarc.result == "fail" else dmarc.result,
    }


def differences(peer, sent, evidence, server):
    for letter, found, theirs in zip(sent, evidence, asked(peer, sent, evidence, server), strict=True):
        for method, result in theirs.items():
            one, other = shown(method, own(found)[method]), shown(method, result)
            if one != other:
                yield Difference(peer, method, letter.features, one, other)


@pytest.mark.long
@pytest.mark.parametrize("peer", PEERS)
def test_each_difference_from_a_peer_is_explained(peer, sent, evidence, server):
    if not INSTALLED[peer]():
        pytest.skip(f"not installed: {peer}")
    found = [*differences(peer, sent, evidence, server)]
    unexplained = [one for one in found if not any(reason.covers(one) for reason in EXPLAINED)]
    assert unexplained == []
    of_peer = [reason for reason in EXPLAINED if peer in reason.peers.split()]
    unused = [reason for reason in of_peer if not any(reason.covers(one) for one in found)]
    assert unused == [], "take these out"


@pytest.mark.long
def test_the_letters_have_all_kinds_of_results(sent, evidence):
    """Else agreement would say little."""
    assert len(sent) >= 200
    seen = {
        (method, one)
        for found in evidence
        for method, result in own(found).items()
        for one in ([result] if isinstance(result, str) else result)
    }
    for method, results in {
        "spf": ["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"],
        "dkim": ["pass", "fail", "policy", "temperror", "permerror"],
        "arc": ["pass", "fail", "none", "temperror"],
        "dmarc": ["pass", "none", "temperror", "permerror", "fail none", "fail quarantine", "fail reject"],
    }.items():
        assert {(method, one) for one in results} <= seen
