"""The client of the API that sends files to import."""

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from gatepost.mime.mbox import separator
from gatepost.model.saved import FILE_OCTETS
from gatepost.values import value

__all__ = ["Done", "Server", "WrongServerError"]

_SECONDS = 600
"""Time for the server to take the next piece of a file, and to answer after the last."""
_LOOK_OCTETS = 1024
"""The first two lines of an mbox."""
_PIECE_OCTETS = 1 << 16


class WrongServerError(Exception):
    """There is no server that imports; the text says why, and what to do."""


@value
class Done:
    """What became of one file."""

    imported: int = 0
    """How many messages were imported."""
    problems: Sequence[str] = ()
    """What was not, and why."""
    is_last: bool = False
    """True if there is no use in sending more."""


class Server:
    """A running complaints server."""

    def __init__(self, url: str, *, password: str | None, ca: Path | None, verify: bool) -> None:
        """Nothing is sent yet; raises WrongServerError if the file of the authorities cannot be used.

        Args:
            url: of its web desk, without the last slash.
            password: of its web desk; None: it has none.
            ca: a PEM file of the authorities to trust; None: those of this system.
            verify: False: any certificate is accepted.
        """
        self._url = url
        self._headers = {"Authorization": f"Bearer {password}"} if password else {}
        try:
            context = ssl.create_default_context(cafile=ca)
        except OSError as error:  # of which ssl.SSLError is one
            raise WrongServerError(f"--ca: {ca} is not a PEM file of certificates ({error})") from None
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # not that of the environment: the mail must not go through it
            urllib.request.HTTPSHandler(context=context),
        )

    def check(self) -> None:
        """Raise WrongServerError unless the server imports messages."""
        try:
            status, found = self._ask("info")
        except (OSError, HTTPException) as error:
            why = f"{self._url} does not answer ({_reason(error)})"
            raise WrongServerError(f"{why}; --url names the web desk of a gatepost complaints") from None
        except ValueError:
            status, found = 0, {}
        if status == 401:
            another = "another" if self._headers else "a"
            raise WrongServerError(f"{self._url} requires {another} password: --password-file")
        if "detail" in found:
            raise WrongServerError(f"{self._url}: {found['detail']}")
        if found.get("product") != "gatepost":
            raise WrongServerError(f"{self._url} is not the web desk of a gatepost complaints")
        if found.get("mode") != "complaints":
            raise WrongServerError(f"{self._url} is a gateway; only gatepost complaints imports messages")

    def send(self, path: Path, sent: Callable[[int], None]) -> Done:
        """Import a file; calls ``sent`` with the number of bytes of each piece."""
        try:
            with path.open("rb") as file:
                return self._send(_Body(file, sent))
        except OSError as error:
            return Done(problems=[error.strerror or str(error)])

    def _send(self, body: "_Body") -> Done:
        if body.size > FILE_OCTETS:
            return Done(problems=[f"found more than {FILE_OCTETS >> 20:,} MiB; split the file in parts"])
        try:
            status, found = self._ask("messages", body)
        except (OSError, HTTPException, ValueError) as error:
            said = f"no answer ({_reason(error)}): look in the web desk whether it was imported"
            return Done(problems=[said], is_last=True)
        refused = [f"line {one['line']}: {one['reason']}" for one in found.get("refused", ())]
        if "detail" in found:
            refused.append(str(found["detail"]))
        return Done(imported=len(found.get("messages", ())), problems=refused, is_last=status >= 500)

    def _ask(self, path: str, body: "_Body | None" = None) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object of a response; raises OSError, HTTPException, ValueError."""
        request = urllib.request.Request(  # noqa: S310 - the URL is the user's own
            f"{self._url}/api/v1/{path}", body, self._headers | (body.headers if body else {})
        )
        try:
            answer = self._opener.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            status, found = answer.status, json.loads(answer.read())
        if not isinstance(found, dict):
            raise ValueError("the answer is not a JSON object")  # noqa: TRY004 - as json does
        return status, found


class _Body:
    """A file that is sent as far as it went when it was opened."""

    def __init__(self, file: IO[bytes], sent: Callable[[int], None]) -> None:
        self._file = file
        self._sent = sent
        self.size = self._left = os.fstat(file.fileno()).st_size
        is_mbox = separator(file.read(_LOOK_OCTETS))
        file.seek(0)
        self.headers = {
            "Content-Length": str(self.size),
            "Content-Type": "application/mbox" if is_mbox else "message/rfc822",
        }

    def read(self, size: int = _PIECE_OCTETS) -> bytes:
        """The next bytes, for `http.client`; raises OSError if the file has become shorter."""
        piece = self._file.read(min(size, self._left))
        self._left -= len(piece)
        if self._left and not piece:
            raise OSError("the file has become shorter")
        self._sent(len(piece))
        return piece


def _reason(error: Exception) -> object:
    return getattr(error, "reason", error)
