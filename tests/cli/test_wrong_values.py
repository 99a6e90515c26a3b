"""Wrong values of options are told in plain words, with the option that was typed."""

import pytest
from gatepost.cli import app
from gatepost.config import ConfigError, load
from typer.testing import CliRunner

WHERE = "Invalid value for "


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("complaints --keep 0", "'--keep': '0', expected at least 1"),
        (f"complaints --keep {10**18}", f"'--keep': '{10**18}', expected at most {10**18 - 1}"),
        (f"journal -n {10**18}", f"'--limit' / '-n': '{10**18}', expected at most {10**18 - 1}"),
        (f"quarantine list -n {10**19}", f"'--limit' / '-n': '{10**19}', expected at most {10**18 - 1}"),
        (f"top -n {10**18}", f"'--limit' / '-n': '{10**18}', expected at most {10**18 - 1}"),
        ("complaints --keep ten", "'--keep': 'ten', expected a whole number"),
        ("complaints --lines -1", "'--lines': '-1', expected at least 0"),
        ("complaints --hold data", "'--hold': 'data' is not one of 'connect', 'helo', 'mail', 'rcpt'"),
        ("complaints --accept-auth all", "'--accept-auth': 'all' is not one of 'any', 'none'"),
        ("complaints --base-path x", "--base-path: 'x', expected a path like /mail/"),
        (
            "complaints --web 0.0.0.0:0",
            "--web: '0.0.0.0:0' is open to other machines without a password, expected --password-file FILE",
        ),
        ("complaints --web 0.0.0.0:0 --password-file /dev/null", "--password-file: no password in /dev/null"),
        ("complaints --forward-to smtp://mx --forward-tls no", "'--forward-tls': 'no' is not one of 'none'"),
        ("journal --limit x", "'--limit' / '-n': 'x', expected a whole number"),
        ("journal --since yesterday", "--since: 'yesterday', expected a time like 1h, 30m, 7d"),
        ("journal --until=", "--until: '', expected a time like 1h"),
        ("quarantine list --since 1y", "--since: '1y', expected a time like 1h"),
        ("top --until now-1h", "--until: 'now-1h', expected a time like 1h"),
        ("quarantine list -n 0", "'--limit' / '-n': '0', expected at least 1"),
        ("dkim new --type dsa example.com s1", "'--type': 'dsa' is not one of 'rsa', 'ed25519'"),
    ],
)
def test_a_wrong_option_is_told_in_plain_words(typed, told):
    done = CliRunner().invoke(app, typed.split())
    assert done.exit_code == 2
    text = " ".join(done.stderr.split())
    assert WHERE + told in text
    assert "Input should" not in text
    assert "Value error" not in text


def test_a_wrong_variable_is_named():
    done = CliRunner(env={"GATEPOST_COMPLAINTS_KEEP": "0"}).invoke(app, ["complaints"])
    assert done.exit_code == 2
    assert "'--keep': '0', expected at least 1 (from GATEPOST_COMPLAINTS_KEEP='0')" in done.stderr


ODD = """
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from annotated_types import Len, MultipleOf
from gatepost import hookimpl


@dataclass
class Odd:
    day: date = None
    rate: float = 0.5
    price: Decimal = Decimal(0)
    number: UUID = None
    few: Annotated[list[int], Len(1, 2)] = (1,)
    code: Annotated[str, Len(2, 3)] = "ab"
    even: Annotated[int, MultipleOf(2)] = 2

    @hookimpl
    def filter_message(self, transaction): ...
"""


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("day: soon", "'soon'"),
        ("rate: fast", "'fast', expected a number"),
        ("price: cheap", "'cheap', expected a valid decimal"),
        ("number: one", "'one', expected a valid UUID"),
        ("few: []", "an empty list, expected a list of 1 or more"),
        ("few: [1, 2, 3]", "a list, expected a list of 2 or fewer"),
        ("code: a", "'a', expected text of 2 or more characters"),
        ("code: abcd", "'abcd', expected text of 3 or fewer characters"),
        ("even: 3", "3, expected a multiple of 2"),
        ("even: 1.5", "1.5, expected a whole number"),
    ],
)
def test_a_wrong_setting_of_a_filter_is_told_in_plain_words(tmp_path, setting, told):
    from gatepost.pipeline.loader import load_rules  # noqa: PLC0415

    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "rules.yaml").write_text(
        f"rules: [{{name: odd, filter: './odd.py:Odd', with: {{{setting}}}}}]\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_rules(load(tmp_path / "rules.yaml"))
    text = str(raised.value)
    assert f": {told}" in text
    for leaked in ("Input should", "input should", "Value error", "should have", "after validation"):
        assert leaked not in text
