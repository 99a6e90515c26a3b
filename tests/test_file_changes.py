"""Files that belong to others are changed by one command at a time."""

import threading

import pytest
from gatepost.file_changes import append_line, only_one, replace_text


@pytest.mark.parametrize("how", ["append", "replace"])
def test_changes_at_the_same_time_are_all_there(tmp_path, how):
    (file := tmp_path / "list.txt").touch()

    def add(number):
        with only_one(file) as path:
            lines = path.read_text().splitlines()
            assert len(lines) == len(set(lines))
            if how == "append":
                append_line(path, str(number))
            else:
                replace_text(path, "".join(f"{line}\n" for line in [*lines, number]))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {*file.read_text().splitlines()} == {*map(str, range(20))}
    assert [*tmp_path.iterdir()] == [file]
