from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from gatepost import Session
from gatepost.config import ConfigError, LoadedConfig, load


@pytest.fixture
def session() -> Callable[..., Session]:
    """Makes a session of a client."""

    def make(client: str = "192.0.2.1", **facts: str | None) -> Session:
        return Session(
            id="0" * 16,
            client=ip_address(client),
            client_port=4096,
            listener="127.0.0.1:2525",
            connected_at=datetime(2024, 1, 1, tzinfo=UTC),
            **facts,
        )

    return make


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LoadedConfig]:
    """Loads a text as rules.yaml of an empty folder."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str) -> LoadedConfig:
        Path("rules.yaml").write_text(text, "utf-8")
        return load(Path("rules.yaml"))

    return load_text


@pytest.fixture
def problems(loaded: Callable[[str], LoadedConfig]) -> Callable[[str], list[str]]:
    """The lines that say what is wrong with a text; none where it is fine."""

    def lines(text: str) -> list[str]:
        try:
            loaded(text)
        except ConfigError as error:
            return str(error).splitlines()
        return []

    return lines
