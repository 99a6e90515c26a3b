"""What a client has sent, read from its octets and its replies as RFC 5321 says and in no other way.

So a message that somebody else read out of the same octets is found out.
"""

import hashlib
import re
from dataclasses import dataclass, field

from gatepost.mime.fields import HEADER_SECTION

PATH = re.compile(rb'[^:]*:[ \t]*<((?:"(?:[^"\\]|\\.)*"|[^">])*)>')
CHUNK = re.compile(rb"([0-9]{1,20})( LAST)?", re.IGNORECASE)
END = b"\r\n.\r\n"


@dataclass(frozen=True)
class Message:
    """One message: its envelope and its content."""

    mail_from: str
    recipients: tuple[str, ...]
    digest: str
    size: int = field(compare=False)

    @classmethod
    def of(cls, mail_from, recipients, content):
        """One with that content, as octets.

        Without a last line end (BDAT) it is the same as with it, and where all of it is body it is the same
        as with the empty line that ends what is put before it.
        """
        whole = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
        if whole.startswith(b"\r\n") and not HEADER_SECTION.match(whole, 2):
            whole = whole[2:]
        return cls(mail_from, tuple(recipients), hashlib.sha256(whole).hexdigest(), len(content))


class Unanswered(Exception):  # noqa: N818 - it is what one looks for
    """A command that should have been answered, or a reply to none."""


class Reading:
    """Goes through what a client has sent before or after its handshake, with the replies that it had.

    A reply is its last line. ``normalise`` says that the server makes CR, LF and NUL alone CRLF.
    """

    def __init__(self, octets, replies, *, normalise=False):
        self._octets, self._at = octets, 0
        self._replies = list(replies)
        self._normalise = normalise
        self._over = False
        self._forget()
        self.taken = []
        """The messages that were answered 250, in their order."""

    def _forget(self):
        self._mail_from, self._recipients, self._chunks = None, [], b""

    def read(self):
        """All of it; raises Unanswered."""
        while not self._over and (line := self._line()) is not None:
            if not self._command(line):
                break
        if self._replies and not self._over:
            raise Unanswered(f"replies to nothing: {self._replies}")

    def _line(self):
        end = self._octets.find(b"\n", self._at) + 1
        if not end:
            self._incomplete()
            return None
        line, self._at = self._octets[self._at : end], end
        return line

    def _incomplete(self):
        """No reply is due but the one that ends the session."""
        self._over = not self._replies or self._replies[0].startswith(b"421")

    def _reply(self, to):
        if not self._replies:
            raise Unanswered(f"no reply to {to[:100]!r}")
        reply = self._replies.pop(0)
        self._over = reply.startswith((b"421", b"221"))
        return reply

    def _command(self, line):
        """False where what follows is not there."""
        text = line[:-2].rstrip(b" \t")
        verb, _, argument = text.partition(b" ")
        verb = verb.upper() if line.find(b"\r") == len(line) - 2 else b""
        chunk = CHUNK.fullmatch(argument) if verb == b"BDAT" and len(line) <= 2048 else None
        if chunk:
            return self._bdat(line, int(chunk[1]), last=bool(chunk[2]))
        reply = self._reply(line)
        code = reply[:3]
        if verb == b"BDAT" and reply.startswith(b"501"):
            self._over = True  # where the next command begins, nobody knows
        elif verb == b"DATA" and code == b"354":
            return self._data(line)
        elif verb == b"AUTH":
            while code == b"334" and (response := self._line()) is not None:
                code = self._reply(response)[:3]
        elif verb == b"STARTTLS" and code == b"220":
            self._over = True
        elif code[:2] == b"25":
            self._accepted(verb, line)
        return True

    def _accepted(self, verb, line):
        if verb in (b"EHLO", b"HELO", b"RSET"):
            self._forget()
        elif verb == b"MAIL":
            self._mail_from = _path(line)
        elif verb == b"RCPT":
            self._recipients.append(_path(line))

    def _data(self, line):
        begin = self._at - 2  # the CRLF of the command may be the first of the end
        end = self._octets.find(END, begin)
        if end < 0:
            self._incomplete()
            return False
        self._at = end + len(END)
        self._end(self._octets[begin : end + 2].replace(b"\r\n.", b"\r\n")[2:], self._reply(line))
        return True

    def _bdat(self, line, size, *, last):
        if len(self._octets) - self._at < size:
            self._incomplete()
            return False
        self._chunks += self._octets[self._at : self._at + size]
        self._at += size
        reply = self._reply(line)
        if reply.startswith(b"503") or not self._recipients:
            self._chunks = b""
        elif last or not reply.startswith(b"250"):
            self._end(self._chunks, reply)
        return True

    def _end(self, content, reply):
        if reply.startswith(b"250"):
            if self._normalise:
                content = re.sub(rb"\r\n?|\n", b"\r\n", content).replace(b"\0", b"")
            self.taken.append(Message.of(self._mail_from, self._recipients, content))
        self._forget()


def _path(line):
    return PATH.match(line)[1].decode("utf-8", "surrogateescape")
