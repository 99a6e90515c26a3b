import re
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import entry_points
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from gatepost.cli import app
from gatepost.config import (
    desk_user,
    dns,
    forward,
    limits,
    listen,
    load,
    log,
    oidc,
    relay,
    rules,
    settings,
    state,
    store,
    web,
)
from gatepost.config.conditions import KEYS
from gatepost.model.mail import Session
from gatepost.model.reply_template import FIELDS
from gatepost.model.verdict import Action
from gatepost.pipeline.loader import load_rules
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "rules.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^##+ (.+)\n((?:(?!^##).*\n)*)", DOC, re.MULTILINE))
OUR_HANDLERS = re.search(r"^```python\n# our_handlers.py\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)[1]
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
MODELS = {
    "Top level": settings.Config,
    "listen": listen.ListenerSettings,
    "listen: tls": listen.ListenerTls,
    "listen: auth": listen.ListenerAuth,
    "relay": relay.Route,
    "relay: servers": relay.UpstreamServer,
    "relay: servers: auth": relay.UpstreamAuth,
    "rules": rules.RuleSettings,
    "rules: tag": rules.Tag,
    "rules: hold": rules.HoldSettings,
    "limits": limits.Limits,
    "store": store.StoreSettings,
    "store: keep": store.Keep,
    "web": web.WebSettings,
    "web: users": desk_user.DeskUser,
    "web: oidc": oidc.OidcSettings,
    "web: oidc: roles": oidc.OidcRole,
    "web: forward": forward.ForwardSettings,
    "dns": dns.DnsSettings,
    "state": state.StateSettings,
    "log": log.LogSettings,
}
OTHER_FILES = {
    **dict.fromkeys(("mx.pem", "mx.key", "users.yaml", "password.txt"), "x"),
    "secret.txt": "c2VjcmV0" * 4,
    **dict.fromkeys(("partners.txt", "lists/partners.txt", "lists/ours.txt"), "*@example.com"),
    **dict.fromkeys(re.findall(r"lists/(?:allowed|blocked)-\w+\.txt", DOC), ""),
    "example.com.pem": ed25519.Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode(),
    "our_handlers.py": OUR_HANDLERS,
    "domains/example.com.yaml": re.search(
        r"^# domains/example.com.yaml\n.*?(?=^```)", DOC, re.MULTILINE | re.DOTALL
    )[0],
    "filters/our_own.py": """
from gatepost import hookimpl

class OurOwn:
    def __init__(self, limit: int): ...

    @hookimpl
    def filter_message(self, transaction): ...
""",
}
INSTALLED = pytest.mark.skipif(
    "keywords" not in entry_points(group="gatepost.filters").names, reason="gatepost is not installed"
)


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of a section's tables by their first cell."""
    lines = re.findall(r"^\| `(.+?)` \|(.*)\|$", SECTIONS[heading], re.MULTILINE)
    return {key: [cell.strip() for cell in re.split(r"(?<!\\)\|", rest)] for key, rest in lines}


@pytest.mark.parametrize("heading", MODELS)
def test_every_key_is_in_its_section_and_no_other(heading):
    fields = MODELS[heading].model_fields
    assert set(rows(heading)) == {field.alias or name for name, field in fields.items()}


@pytest.mark.parametrize("heading", MODELS)
def test_defaults_are_those_of_the_program(heading):
    model = MODELS[heading]
    for name, field in model.model_fields.items():
        _, default, _ = rows(heading)[field.alias or name]
        assert (default == "required") is field.is_required(), name
        written = re.fullmatch(r"`(.+)`", default)
        if isinstance(field.default, str | int | float):
            assert written, f"{name}: the default is not written"
        if written:
            validated = model.__pydantic_validator__.validate_assignment(
                model.model_construct(), name, yaml.safe_load(written[1])
            )
            assert getattr(validated, name) == field.get_default(call_default_factory=True), name


def test_the_other_tables_are_complete():
    assert set(rows("when")) == set(KEYS)
    assert set(rows("How rules are asked")) == {action.value for action in Action}
    assert set(rows("Replies")) == {f"{{{field}}}" for field in FIELDS}


def test_every_section_is_in_the_table_of_contents_by_its_anchor():
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in SECTIONS}
    assert set(re.findall(r"\]\(#(.+?)\)", DOC)) <= anchors


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "our_handlers", raising=False)
    monkeypatch.setattr(oidc, "find_spec", lambda name: name)  # what is written does not depend on an extra
    for name, text in OTHER_FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_can_be_loaded(folder, number):
    (folder / "rules.yaml").write_text(EXAMPLES[number])
    load(folder / "rules.yaml")


@INSTALLED
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_filters_of_examples_can_be_made(folder, number):
    (folder / "rules.yaml").write_text(EXAMPLES[number])
    load_rules(load(folder / "rules.yaml"))


def test_the_shipped_file_listens_on_loopback_and_delivers_into_the_inbox():
    config = load(ROOT / "rules.yaml").config
    assert [listener.address for listener in config.listen] == ["127.0.0.1:2525"]
    assert [(route.recipients, route.to) for route in config.relay] == [(("*",), "inbox")]
    assert config.store.url == f"sqlite:///{ROOT}/gatepost.db"


COMMANDS = re.findall(r"^gatepost (?:block|allow) .*", DOC, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_add_to_lists_do_what_is_said(folder, command):
    (example,) = (one for one in EXAMPLES if "blocked-clients:" in one)
    (folder / "rules.yaml").write_text(
        example.replace("rules:", "  ours: lists/ours.txt\nrelay: [{recipients: $ours, to: inbox}]\nrules:")
    )
    arguments = shlex.split(command, comments=True)[1:]
    file = ("-c", str(folder / "rules.yaml"))
    done = CliRunner().invoke(app, [*(one for one in arguments if one != "--remove"), *file])
    assert done.exit_code == 0, done.output
    added = re.search(r"(\S+): added (.*)", done.stdout)
    shown = re.search(r"# (\*\S+?),?(?: |$)", command)
    assert added[2] == (shown[1] if shown else arguments[1])
    line = rf"^{re.escape(added[2])}  # \d{{4}}-"
    assert re.search(line, Path(added[1]).read_text(), re.MULTILINE)
    if "--remove" in arguments:
        done = CliRunner().invoke(app, [*arguments, *file])
        assert done.exit_code == 0, done.output
        assert not re.search(line, Path(added[1]).read_text(), re.MULTILINE)


def said(helo):
    return Session(
        id="s",
        client=ip_address("192.0.2.1"),
        client_port=1,
        listener="",
        connected_at=datetime.now(UTC),
        helo=helo,
    )


NAMES = [
    "mx.example.org",
    "mx.example.org.",
    "[192.0.2.1]",
    "[IPv6:2001:db8::1]",
    "m_x.example",
    "bücher.example",
]
NO_NAMES = ["", "localhost", "friend", "\\\\host\\share"]
ODD_NAMES = [
    "[192.0.2.1",
    "192.0.2.1]",
    "a.b c.d",
    "<a.b>",
    "a..b",
    ".a.b",
    "a@b.c",
    "(a.b",
    "a.b,c.d",
    "a.b;c",
    "a.b:c",
    '"a.b',
    "a.b\\c",
]


def test_the_example_of_a_rule_for_helo_refuses_what_is_no_name(folder):
    [example] = [one for one in EXAMPLES if "name: no-name" in one]
    (folder / "rules.yaml").write_text(example)
    [rule] = load(folder / "rules.yaml").config.rules
    hit = [helo for helo in (*NAMES, *NO_NAMES, *ODD_NAMES) if rule.when.holds(said(helo))]
    assert hit == [*NO_NAMES, *ODD_NAMES]


def test_the_shipped_rule_for_helo_needs_its_comment_signs_taken_out_and_no_more(folder):
    text = (ROOT / "rules.yaml").read_text()
    commented = re.search(r"^  # - name: no-name .*\n(?:  #   .*\n)+", text, re.MULTILINE)[0]
    (folder / "rules.yaml").write_text("rules:\n" + commented.replace("  # ", "  "))
    [rule] = load(folder / "rules.yaml").config.rules
    assert [helo for helo in (*NAMES, *NO_NAMES) if rule.when.holds(said(helo))] == NO_NAMES


@INSTALLED
def test_the_shipped_rules_can_be_made():
    rules = load_rules(load(ROOT / "rules.yaml"))
    assert any(rule.observe for rule in rules)
    assert any(not rule.observe for rule in rules)
