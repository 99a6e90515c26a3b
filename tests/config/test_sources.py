"""Settings come from a file, from the files of a folder, and from variables of the environment."""

import os
from pathlib import Path

import pytest
from gatepost.config import ConfigError, load
from gatepost.config.list_changes import used


@pytest.fixture
def folder(tmp_path):
    """Write files into a folder of settings."""

    def write(**files):
        folder = tmp_path / "conf.d"
        for name, text in files.items():
            file = folder / name.replace("_yaml", ".yaml").replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return folder

    return write


def problems(path):
    with pytest.raises(ConfigError) as raised:
        load(path)
    folder = f"{path}/" if path.is_dir() else f"{path.parent}/"
    return [str(problem).replace(folder, "") for problem in raised.value.problems]


def test_the_sections_of_all_files_of_a_folder_are_the_settings(folder):
    path = folder(
        a_yaml="hostname: mx.example.com\nlists: {blocked: blocked.txt}\n",
        b_yaml="rules:\n  - include: rules/*.yaml\n",
        blocked="192.0.2.1\n",
        rules__one_yaml="- {name: no, filter: match, when: {client: $blocked}, action: reject}\n",
        README="not read",
    )
    (path / "..data.yaml").write_text("hidden: as Kubernetes does it")
    (path / "blocked.txt").write_text("192.0.2.1\n")
    loaded = load(path)
    assert loaded.config.hostname == "mx.example.com"
    assert [rule.name for rule in loaded.config.rules] == ["no"]
    assert loaded.config.lists["blocked"] == path / "blocked.txt"
    assert loaded.base == path
    assert str(loaded.problem(("hostname",), "wrong")) == f"{path}/a.yaml:1:11: wrong"


def test_mistakes_in_a_folder_name_the_file_the_line_and_the_other_place(folder):
    path = folder(
        a_yaml="store: {}\nlog: json\n",
        b_yaml="log: xml\nstore: {keep: {days: x}}\nstate: {max_entries: no}\n",
        c_yaml="- a list\n",
    )
    (path / "d.yml").write_text("{}")
    found = problems(path)
    assert found[:2] == [
        "b.yaml:1:1: 'log' is in a.yaml:2 already, expected each section in one file",
        "b.yaml:2:1: 'store' is in a.yaml:1 already, expected each section in one file",
    ]
    assert found[2].startswith("b.yaml:3:22: 'no', expected a whole number")
    assert found[3:] == [
        "c.yaml:1:1: a list, expected a mapping of settings",
        "d.yml: is not read, expected a name that ends with .yaml",
    ]


def test_a_pipe_in_a_folder_is_a_mistake_and_is_not_waited_for(folder):
    path = folder(a_yaml="log: json\n")
    os.mkfifo(path / "b.yaml")
    assert problems(path) == ["b.yaml: is a pipe, expected a file"]


def test_a_folder_without_settings_is_a_mistake_unless_variables_have_them(folder, monkeypatch):
    path = folder(README="")
    assert problems(path) == [f"{path}: a folder without settings, expected files *.yaml in it"]
    monkeypatch.setenv("GATEPOST_SET_NODE", "mx-a")
    assert load(path).config.node == "mx-a"


def test_a_variable_is_a_setting_whose_value_is_yaml(folder, monkeypatch):
    path = (
        folder(rules_yaml="hostname: a.example.com\nlimits: {recipients: 7, connections: 8}\n") / "rules.yaml"
    )
    for name, text in {
        "HOSTNAME": "b.example.com",
        "NODE": "'7'",
        "LIMITS__CONNECTIONS_PER_CLIENT": "5",
        "LIMITS__CONNECTIONS": "9",
        "LISTEN": "[127.0.0.1:2525, {address: '[::1]:2525'}]",
        "STORE__KEEP": "{messages: 3, days: 4}",
        "STORE__KEEP__DAYS": "5",
    }.items():
        monkeypatch.setenv(f"GATEPOST_SET_{name}", text)
    monkeypatch.setenv("GATEPOST_SERVE_CONFIG", "no setting")
    config = load(path).config
    assert (config.hostname, config.node) == ("b.example.com", "7")
    limits = config.limits
    assert (limits.recipients, limits.connections, limits.connections_per_client) == (7, 9, 5)
    assert [one.address for one in config.listen] == ["127.0.0.1:2525", "[::1]:2525"]
    assert (config.store.keep.messages, config.store.keep.days) == (3, 5)


def test_the_name_of_a_variable_may_be_no_text(folder, monkeypatch):
    path = folder(rules_yaml="relay: [{recipients: '*', to: inbox}]\n") / "rules.yaml"
    monkeypatch.setenv("GATEPOST_SET_N\udcff", "a")
    assert problems(path) == ["GATEPOST_SET_N?: not UTF-8 text, expected UTF-8"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("STROE__URL", "x", ":1:1: unknown key 'stroe' (did you mean 'store'?), expected one of"),
        ("LIMITS__CONNECTIONS", "many", ":1:1: 'many', expected a whole number"),
        (
            "STORE__URL",
            "postgresql://joe:secret@h/d",
            ":1:1: a password in the URL, expected it in password_file",
        ),
        ("LISTEN", "[a", ":2:1: not YAML: did not find expected ',' or ']' while parsing a flow sequence"),
        ("NODE", "\udcff", ": not UTF-8 text, expected UTF-8"),
        ("NODE", "", ": is empty, expected a value, or no such variable"),
        ("STORE____URL", "x", ": not the name of a setting, expected one like GATEPOST_SET_STORE__URL"),
        ("", "x", ": not the name of a setting, expected one like GATEPOST_SET_STORE__URL"),
        (
            "LISTEN__ADDRESS",
            "127.0.0.1:25",
            ": listen in {file}:1 is no section, expected listen as a section with keys there, or ",
        ),
        ("node", "a", ": small letters, expected GATEPOST_SET_NODE"),
        ("STORE__url", "a", ": small letters, expected GATEPOST_SET_STORE__URL"),
        ("STORE_URL", "x", ":1:1: unknown key 'store_url' (did you mean GATEPOST_SET_STORE__URL?)"),
        (
            "STORE_KEEP__DAYS",
            "x",
            ":1:1: unknown key 'store_keep' (did you mean GATEPOST_SET_STORE__KEEP__DA",
        ),
        (
            "WEB__OIDC_ISSUER",
            "x",
            ":1:1: unknown key 'oidc_issuer' (did you mean GATEPOST_SET_WEB__OIDC__ISS",
        ),
        (
            "RULES__0__NAME",
            "x",
            ": the number 0 among the keys, expected GATEPOST_SET_RULES as a whole: a variable does not",
        ),
        (
            "RELAY__TO",
            "inbox",
            ": relay in {file}:2 is a list, expected relay as a section with keys there, or GATEPOST_SET_REL",
        ),
        ("NODE", "123", ":1:1: 123, expected text (with quotes in the value: GATEPOST_SET_NODE=\"'123'\")"),
        ("PID_FILE", "true", ":1:1: true, expected a path"),
    ],
)
def test_a_mistake_in_a_variable_names_it(folder, monkeypatch, name, text, said):
    path = folder(rules_yaml="listen: 127.0.0.1:0\nrelay: [{recipients: '*', to: inbox}]\n") / "rules.yaml"
    monkeypatch.setenv(f"GATEPOST_SET_{name}", text)
    (found,) = problems(path)
    assert found.startswith(f"GATEPOST_SET_{name}{said.format(file='rules.yaml')}")
    assert "secret" not in found


@pytest.mark.parametrize(
    ("settings", "name", "text", "said"),
    [
        (
            (
                "web:\n  password_file: p\n  oidc:\n    issuer: https://sso.example.com\n"
                "    client_id: desk\n    client_secret_file: p\n    roles: [{groups: a, role: reader}]\n"
            ),
            "WEB__OIDC__REDIRECT_URI",
            "https://desk.example.com/wrong",
            "GATEPOST_SET_WEB__OIDC__REDIRECT_URI:1:1: the path of oidc: redirect_uri is '/wrong'",
        ),
        (
            "store:\n  required: true\n  password_file: p\n",
            "STORE__URL",
            "sqlite:///x.db",
            (
                "rules.yaml:3:18: password_file without a server, expected url: postgresql://USER@HOST/DATABASE"
                " (with GATEPOST_SET_STORE__URL)"
            ),
        ),
        (
            "state:\n  max_entries: 5\n",
            "STATE__URL",
            "redis://127.0.0.1",
            "GATEPOST_SET_STATE__URL:1:1: url and max_entries, expected one of them",
        ),
        (
            "state:\n  url: redis://127.0.0.1\n",
            "STATE__PATH",
            "memory",
            (
                "rules.yaml:2:8: url and path, expected one of them: a server limits its own memory"
                " (with GATEPOST_SET_STATE__PATH)"
            ),
        ),
        (
            "store:\n  password_file: p\n",
            "STORE__KEEP__DAYS",
            "3",
            "rules.yaml:2:3: password_file without a server, expected url: postgresql://USER@HOST/DATABASE",
        ),
    ],
)
def test_a_mistake_of_two_keys_has_the_place_of_the_first_and_names_the_variable(
    folder, monkeypatch, settings, name, text, said
):
    path = folder(rules_yaml=settings, p="secret\n") / "rules.yaml"
    monkeypatch.setenv(f"GATEPOST_SET_{name}", text)
    (found,) = problems(path)
    assert found.startswith(said)
    assert name in said or "GATEPOST_SET" not in found


@pytest.mark.parametrize(("name", "text"), [("STORE", "{}"), ("STORE__URL", "sqlite:///c.db"), ("NODE", "a")])
def test_a_variable_hides_no_duplicate_key_of_a_file(folder, monkeypatch, name, text):
    path = folder(rules_yaml="store: {required: false}\nstore: {keep: {days: 3}}\n") / "rules.yaml"
    monkeypatch.setenv(f"GATEPOST_SET_{name}", text)
    assert problems(path) == [
        "rules.yaml:2:1: duplicate key 'store', expected each key once (first in line 1)"
    ]


def test_lists_are_changed_beside_a_folder_of_settings(folder):
    path = folder(
        a_yaml="lists: {blocked-clients: blocked}\n",
        b_yaml="rules: [{name: no, filter: match, when: {client: $blocked-clients}, action: reject}]\n",
        blocked="",
    )
    assert used(load(path)) == {"blocked-clients"}
    assert load(path).config.lists["blocked-clients"] == Path(path / "blocked")
