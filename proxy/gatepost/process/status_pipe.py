"""What children report to their supervisor, through a pipe."""

import os
from typing import Final, Literal

__all__ = ["Status", "StatusPipe"]

Status = Literal["listens", "reloaded", "not reloaded"]

_CODES: Final[dict[Status, bytes]] = {"listens": b"L", "reloaded": b"R", "not reloaded": b"N"}
_STATUSES: Final = {code: word for word, code in _CODES.items()}
_PROCESS_BYTES: Final = 4
_SIZE: Final = _PROCESS_BYTES + 1
_AT_ONCE: Final = 4096


class StatusPipe:
    """The pipe; make it before forking."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)

    def send(self, status: Status) -> None:
        """In a child: report to the supervisor."""
        os.write(self._writing, os.getpid().to_bytes(_PROCESS_BYTES, "big") + _CODES[status])

    def received(self) -> list[tuple[int, Status]]:
        """In the supervisor: what has arrived, each with the id of the process that sent it."""
        try:
            data = os.read(self._reading, _AT_ONCE * _SIZE)
        except BlockingIOError:
            return []
        pieces = (data[start : start + _SIZE] for start in range(0, len(data), _SIZE))
        return [
            (int.from_bytes(piece[:_PROCESS_BYTES], "big"), _STATUSES[piece[_PROCESS_BYTES:]])
            for piece in pieces
        ]
