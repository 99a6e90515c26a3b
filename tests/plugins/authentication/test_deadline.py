"""A deadline that the rule's timeout does not leave room for is a warning of check."""

import pytest
from gatepost.cli import app
from typer.testing import CliRunner

RULE = "rules: [{{name: auth, filter: authentication, with: {{authserv_id: mx{setting}}}{timeout}}}]\n"


@pytest.mark.parametrize(
    ("setting", "timeout", "warns"),
    [
        ("", "", False),
        (", deadline: 9s", "", True),
        (", deadline: 8.9s", "", False),
        ("", ", timeout: 9s", True),
        ("", ", timeout: 20s", False),
        (", deadline: 3s", ", timeout: 5s", False),
        (", deadline: 30s", ", timeout: 20s", True),
    ],
)
def test_a_deadline_beyond_the_timeout(tmp_path, setting, timeout, warns):
    file = tmp_path / "rules.yaml"
    file.write_text(RULE.format(setting=setting, timeout=timeout))
    done = CliRunner().invoke(app, ["check", "-c", str(file)])
    assert done.exit_code == 0, done.output
    found = " ".join(done.stderr.split())
    assert (f"{file}:1:30: warning: deadline: " in found) is warns
    assert ("less than the rule's timeout of" in found) is warns
