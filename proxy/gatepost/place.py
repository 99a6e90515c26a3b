"""Where a filter is: its rule, its folder, the largest message, its log and its counters."""

import logging
from collections.abc import Callable
from pathlib import Path

__all__ = ["Place"]


class Place:
    """Where a filter is.

    A filter gets it as the argument of a constructor's parameter with this annotation.
    """

    def __init__(
        self,
        *,
        rule: str,
        folder: Path,
        message_size: int = 32 << 20,
        timeout_seconds: float = 10.0,
        counter: Callable[[str, str], None] = lambda _rule, _what: None,
        data_made: Callable[[str, str, float], None] = lambda _rule, _source, _seconds: None,
    ) -> None:
        """``counter`` is called with the name of the rule and each word that is counted.

        ``data_made`` is called with the name of the rule and what `data_made` is told.
        """
        self.rule: str = rule
        """The name of the rule."""
        self.folder: Path = folder
        """The folder of rules.yaml, to which paths are relative."""
        self.message_size: int = message_size
        """``limits.message_size``: the bytes that a message has at most."""
        self.timeout_seconds: float = timeout_seconds
        """The rule's ``timeout``: a filter that takes longer has failed."""
        self.logger: logging.Logger = logging.getLogger(f"gatepost.filter.{rule}")
        """Named ``gatepost.filter.`` and the rule."""
        self._counter = counter
        self._data_made = data_made

    def count(self, what: str) -> None:
        """Count one of what happens in the filter, in ``/metrics`` under ``gatepost_filter_total``.

        ``what`` is a fixed word, such as ``known``, and nothing from mail: of each rule 50 are counted by
        name, the others together as ``other``. For any thread.
        """
        self._counter(self.rule, what)

    def data_made(self, source: str, seconds: float) -> None:
        """State how old data is that the filter depends on, for example the signatures of a virus scanner.

        It was made ``seconds`` after 1970. ``/metrics`` has that for an hour, under
        ``gatepost_filter_data_made_seconds``: state it again at least twice an hour. ``source`` is from the
        settings, for example the address of a server. For any thread.
        """
        self._data_made(self.rule, source, seconds)
