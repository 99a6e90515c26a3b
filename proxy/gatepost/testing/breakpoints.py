"""Breakpoints for test suites: stop a session of the application, look at it, and choose what happens.

breakpoint = mailbox.hold("rcpt")
with ThreadPoolExecutor() as pool:
    signing_up = pool.submit(sign_up, ...)
    breakpoint.wait().reply("450 4.2.1 The mailbox is busy")
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

__all__ = ["Breakpoint", "HeldSession", "NothingHeldError", "arm"]


class NothingHeldError(AssertionError):
    """No session reached the breakpoint in time."""


class Api(Protocol):
    """The API of a complaints server."""

    def get(self, path: str, **options: Any) -> bytes:
        """The response to a request."""

    def get_json(self, path: str, **options: Any) -> dict[str, Any]:
        """The response as a JSON object."""


class HeldSession:
    """A session that waits for an answer: exactly one of `go_on`, `reply` and `change`."""

    def __init__(self, api: Api, fields: Mapping[str, Any]) -> None:
        self._api = api
        self.id: str = fields["id"]
        self.stage: str = fields["stage"]
        """``connect``, ``helo``, ``mail``, ``rcpt`` or ``message``."""
        self.deadline = datetime.fromisoformat(fields["deadline"])
        """Aware, UTC; without an answer the breakpoint's ``on_error`` answers then."""
        self.client: str = fields["client"]
        """The client's IP address."""
        self.helo: str = fields["helo"]
        """The argument of EHLO or HELO; empty before it."""
        self.tls: str | None = fields["tls"]
        """The TLS version; None on a plain connection."""
        self.username: str | None = fields["authenticated"]
        """The user name from AUTH."""
        self.mail_from: str | None = fields["mail_from"]
        """The reverse-path; None before MAIL."""
        self.recipients: tuple[str, ...] = tuple(fields["recipients"])
        """The forward-paths accepted so far."""
        self.recipient: str | None = fields["recipient"]
        """At ``rcpt``: the forward-path that is asked about."""

    def __repr__(self) -> str:
        return f"<HeldSession at {self.stage} from {self.mail_from!r} to {', '.join(self.recipients)}>"

    @property
    def raw(self) -> bytes:
        """At ``message``: the message as sent; of a large one the first MiB."""
        return self._api.get(f"held/{self.id}/message")

    def go_on(self) -> None:
        """Let it go on as if it had not been held. Raises as `change`."""
        self._answer({})

    def reply(self, reply: str) -> None:
        """Answer with this reply, for example ``550 5.7.1 No``; 421 also closes. Raises as `change`."""
        self._answer({"reply": reply})

    def change(
        self,
        *,
        mail_from: str | None = None,
        recipients: Sequence[str] | None = None,
        message: bytes | None = None,
        reply: str | None = None,
    ) -> None:
        """At ``message``: let it go on with another envelope or message, and perhaps another 250 reply.

        Raises ValueError if the server cannot do so: then the session is still held. Raises OSError if it is
        not held any more; the text says why.
        """
        given = {
            "mail_from": mail_from,
            "recipients": None if recipients is None else list(recipients),
            "message_base64": None if message is None else base64.b64encode(message).decode(),
            "reply": reply,
        }
        self._answer({name: value for name, value in given.items() if value is not None})

    def _answer(self, body: Mapping[str, Any]) -> None:
        self._api.get(f"held/{self.id}/answer", method="POST", body=body)


class Breakpoint:
    """A breakpoint that is armed."""

    def __init__(self, api: Api, fields: Mapping[str, Any]) -> None:
        self._api = api
        self.id: str = fields["id"]
        self.stage: str = fields["stage"]

    def wait(self, timeout_seconds: float = 5.0) -> HeldSession:
        """The session that it holds, of several that for which it has waited longest.

        Raises NothingHeldError if there is none in time.
        """
        __tracebackhide__ = True
        wanted = {"breakpoint": self.id, "timeout": timeout_seconds}
        found = self._api.get_json("held", seconds=timeout_seconds, **wanted)["held"]
        if not found:
            raise NothingHeldError(f"No session was held at {self.stage} within {timeout_seconds:g} s.")
        return HeldSession(self._api, found[0])

    def remove(self) -> None:
        """Hold no more sessions; those that are held stay held."""
        try:
            self._api.get(f"breakpoints/{self.id}", method="DELETE")
        except LookupError:  # it is used up
            return


def arm(
    api: Api,
    stage: str,
    when: Mapping[str, Any] | None,
    count: int | None,
    deadline_seconds: float,
    on_error: str,
) -> Breakpoint:
    """Hold the next sessions that reach a stage; raises ValueError."""
    body = {
        "stage": stage,
        "when": when,
        "count": count,
        "deadline": deadline_seconds,
        "on_error": on_error,
    }
    return Breakpoint(api, api.get_json("breakpoints", method="POST", body=body))
