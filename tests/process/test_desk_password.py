"""The generated password of the web desk: made once, and for its owner's eyes only."""

import stat

import pytest
from gatepost.config import LoadedConfig, load
from gatepost.process.desk_password import desk_password, desk_password_file


@pytest.fixture
def loaded(tmp_path):
    (tmp_path / "rules.yaml").write_text("web: 127.0.0.1:0\n")
    return load(tmp_path / "rules.yaml")


def test_it_is_made_and_logged_once_and_stays(loaded: LoadedConfig, caplog):
    made = desk_password(loaded)
    file = desk_password_file(loaded)
    assert len(made) == 24
    assert file.read_text() == f"{made}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert caplog.text.count(made) == 1
    assert desk_password(loaded) == made
    assert caplog.text.count(made) == 1
    file.unlink()
    assert desk_password(loaded) != made


def test_what_others_could_read_is_corrected_and_logged_without_the_password(loaded: LoadedConfig, caplog):
    file = desk_password_file(loaded)
    file.write_text("open sesame\n")
    file.chmod(0o644)
    assert desk_password(loaded) == "open sesame"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "could be read by other users" in caplog.text
    assert "open sesame" not in caplog.text


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_is_no_password(loaded: LoadedConfig, content):
    desk_password_file(loaded).write_text(content)
    assert len(desk_password(loaded)) == 24


def test_no_link_is_followed(loaded: LoadedConfig, tmp_path):
    (tmp_path / "elsewhere").write_text("known\n")
    desk_password_file(loaded).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        desk_password(loaded)
