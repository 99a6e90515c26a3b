"""Opens the store in memory."""

from pathlib import Path

from gatepost.config.store import StoreSettings
from gatepost.store.contents import Contents, Restored
from gatepost.store.contract import DeskSessions, Exchange, Reporting
from gatepost.store.errors import StoreError
from gatepost.store.memory.archive import MemoryArchive
from gatepost.store.memory.conversations import MemoryConversations
from gatepost.store.memory.data import Data
from gatepost.store.memory.mailbox import MemoryMailbox
from gatepost.store.memory.store import MemoryStore
from gatepost.store.node import RunningNode

__all__ = ["MemoryBackend"]

_NO_BACKUP = "a store in memory can neither be backed up nor restored: it ends with its process"


class MemoryBackend:
    """A `gatepost.store.contract.Backend` that has one store, whatever the settings say.

    All that is opened by the same object, in any thread, reads and writes the same store. It lasts as long
    as the object, also while nothing is open.
    """

    def __init__(self) -> None:
        self._data: Data | None = None

    def check(self, _settings: StoreSettings, *, asks: bool = False) -> None:
        """Nothing can be wrong."""

    def open_store(
        self,
        _settings: StoreSettings,
        _base: Path,
        *,
        node: RunningNode | None = None,  # noqa: ARG002 - the contract's name
    ) -> MemoryStore:
        """To write; makes the store where there is none."""
        self._data = self._data or Data()
        return MemoryStore(self._data)

    def open_archive(self, _settings: StoreSettings, _base: Path) -> MemoryArchive:
        """To look up; raises StoreError before the first `open_store`."""
        return MemoryArchive(self._existing())

    def open_mailbox(self, _settings: StoreSettings, _base: Path) -> MemoryMailbox:
        """To read messages; raises StoreError before the first `open_store`."""
        return MemoryMailbox(self._existing())

    def open_conversations(self, _settings: StoreSettings, _base: Path) -> MemoryConversations:
        """To read conversations; raises StoreError before the first `open_store`."""
        return MemoryConversations(self._existing())

    def open_exchange(self, _settings: StoreSettings, *, desk: str) -> Exchange | None:  # noqa: ARG002 - the contract's name
        """None: memory is of one process."""
        return None

    def open_reporting(self, _settings: StoreSettings) -> Reporting | None:
        """None: memory is of one process."""
        return None

    def open_desk_sessions(
        self,
        _settings: StoreSettings,
        *,
        unused_seconds: float,  # noqa: ARG002 - the contract's name
    ) -> DeskSessions | None:
        """None: memory is of one process."""
        return None

    def back_up(self, _settings: StoreSettings, _base: Path, _file: Path, *, replace: bool) -> Contents:  # noqa: ARG002 - the contract's name
        """Raise StoreError: what is in memory has no file to copy."""
        raise StoreError(_NO_BACKUP)

    def restore(self, _settings: StoreSettings, _base: Path, _file: Path, *, replace: bool) -> Restored:  # noqa: ARG002 - as above
        """Raise StoreError, as `back_up`."""
        raise StoreError(_NO_BACKUP)

    def _existing(self) -> Data:
        if self._data is None:
            raise StoreError("there is no store in memory yet")
        return self._data
