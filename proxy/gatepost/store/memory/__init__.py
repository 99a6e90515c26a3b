"""The backend in memory, for tests: dicts under one lock, without retention.

Its content is lost with the `MemoryBackend`, and rules.yaml cannot select it. It proves that the contract is
sufficient.
"""

from gatepost.store.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
