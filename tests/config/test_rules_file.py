# ruff: noqa: E501 - a message is compared as it is shown, on one line
import ipaddress
import json
from pathlib import Path

import pytest
import yaml
from gatepost.config import Config, ConfigError, load
from gatepost.config.sources import read_settings
from gatepost.model.edits import AddHeader, PrefixSubject, RemoveHeader
from gatepost.process.certificate import make_certificate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEYS = "hostname, node, listen, workers, user, group, pid_file, relay, limits, store, web, dns, state, log, lists, rules, mixed_recipients, bare_newline, early_talkers, strict_addresses"
RULE_KEYS = "name, filter, with, when, action, score, reply, tag, hold, mode, on_error, timeout, learn, isolation, memory"
WHEN_KEYS = "sender, recipient, client, helo, authenticated, tls, early_talker, header, size, score, hit, auth, not, any, all"
STORE_URL = "expected one like sqlite:///gatepost.db or postgresql://USER@HOST/DATABASE"
NETWORK = "an address or network like 192.0.2.1 or 10.0.0.0/8"
NO_FIELD_NAME = "is not the name of a header field, expected 1 to 76 printable ASCII characters without space and colon (RFC 5322 section 2.2)"
RULE = "rules:\n  - name: a\n    filter: match\n"
ROUTE = "relay:\n  - to: inbox\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("hostnam: mx\n", [f"1:1: unknown key 'hostnam' (did you mean 'hostname'?), expected one of: {KEYS}"]),
        ("node: mx a\n", [
            "1:7: 'mx a', expected a name of at most 64 letters, digits, '.', '_' and '-' that begins with a letter or digit",
        ]),
        ("weeb: {}\n", [f"1:1: unknown key 'weeb' (did you mean 'web'?), expected one of: {KEYS}"]),
        (
            "hostname: mx.example.com\nweb: 0.0.0.0:8025\n",
            ["2:6: '0.0.0.0:8025' is open to other machines without a password, expected password_file, users or oidc"],
        ),
        ("web: {address: localhost}\n", ["1:16: 'localhost', expected host:port like 127.0.0.1:8025, or unix:/path"]),
        ("hostname: a b\n", ["1:11: 'a b', expected a domain name like mx.example.com"]),
        ("user: nosuch\n", ["1:7: 'nosuch', expected a user of this machine"]),
        ("user: root\ngroup: nosuch\n", ["2:8: 'nosuch', expected a group of this machine"]),
        ("group: root\n", ["1:8: the group 'root' without a user, expected user too"]),
        ("hostname: 5\n", ["1:11: 5, expected a domain name like mx.example.com"]),
        ("mixed_recipients: bounce\n", ["1:19: 'bounce', expected 'quarantine', 'defer' or 'reject'"]),
        ("mixed: defer\n", ["1:1: 'mixed' is now called 'mixed_recipients'"]),
        ("limits: {bogus_commands: 3, auth_tries: 3, received_fields: 9}\n", [
            "1:10: 'bogus_commands' is now called 'invalid_commands'",
            "1:29: 'auth_tries' is now called 'auth_failures'",
            "1:44: 'received_fields' is now called 'max_hops'",
        ]),
        ("- a\n", ["1:1: a list, expected a mapping of settings"]),
        ("just text\n", ["1:1: 'just text', expected a mapping of settings"]),
        ("", ["1:1: the file is empty, expected settings"]),
        ("# nothing but a comment\n---\n", ["1:1: the file is empty, expected settings"]),
        # YAML itself
        ("listen:\n\t- a:1\n", ["2:1: a tab in the indentation, expected spaces"]),
        ("web: localhost:1\nweb: 2\n", ["2:1: duplicate key 'web', expected each key once (first in line 1)"]),
        ("1: a\n", ["1:1: the key '1', expected text (write it in quotes)"]),
        ("[a]: b\n", ["1:1: a key that is not text, expected text (write it in quotes)"]),
        ("hostname: !!python/object:os.system x\n", ["1:11: the tag 'tag:yaml.org,2002:python/object:os.system', expected a value without a tag"]),
        ("hostname: *a\n", ["1:11: not YAML: found undefined alias"]),
        ("hostname: [a\n", ["2:1: not YAML: did not find expected ',' or ']' while parsing a flow sequence"]),
        ("hostname: a\n---\nhostname: b\n", ["2:1: not YAML: but found another document expected a single document in the stream"]),
        ("hostname: a\nmixed: \x07\n", ["2:8: not YAML: a control character, expected text"]),
        ("a: " + "[" * 40 + "]" * 40, ["1:35: nested more than 32 deep"]),
        ("a: " + "[" * 900, ["1:35: nested more than 32 deep"]),
        ("listen: {address: 'a:1', auth: {users: " + "x" * 300 + ", without_tls: true}}\n", ["1:40: '" + "x" * 57 + "...', expected a file that exists and can be read or 'any'"]),
        ("- " * 40_000, ["1:65: nested more than 32 deep"]),
        ("a: &a [*a]\n", ["1:4: more than 200,000 values, counting aliases"]),
        # listeners
        ("listen: 127.0.0.1\n", ["1:9: '127.0.0.1', expected host:port like 127.0.0.1:2525 or [::1]:2525"]),
        ("listen: [127.0.0.1:65536]\n", ["1:10: '127.0.0.1:65536', expected host:port like 127.0.0.1:2525 or [::1]:2525"]),
        ("listen: ::1:25\n", ["1:9: '::1:25', expected host:port like 127.0.0.1:2525 or [::1]:2525"]),
        ("listen: []\n", ["1:9: an empty list, expected at least one entry"]),
        ("listen: {address: 'a:1', proxy_protocol_from: 10.1.0.0/8}\n", [f"1:47: '10.1.0.0/8', expected {NETWORK} (did you mean '10.0.0.0/8'?)"]),
        ("listen: {address: 'a:1', tls: {certificate: c.pem, key: k.pem, required: yes}}\n", [
            "1:45: 'c.pem', expected a file that exists and can be read",
            "1:57: 'k.pem', expected a file that exists and can be read",
            "1:74: 'yes', expected true or false",
        ]),
        ("listen: {address: 'a:1', auth: {users: users.yaml, without_tls: true}}\n", ["1:40: 'users.yaml', expected a file that exists and can be read or 'any'"]),
        ("listen: {address: 'a:1', auth: {users: any}}\n", ["1:32: AUTH is only offered over TLS, and this listener has no tls, expected a section tls, or without_tls: true"]),
        ("listen: {address: 'a:1', auth: {users: any, without_tls: true}}\nrelay: [{recipients: '*', to: smtp://a}]\n", [
            "1:40: users: any would let everybody relay, expected a file of users, or no route to a server"
        ]),
        # routes
        (ROUTE, ["2:5: the key 'recipients' is missing under relay"]),
        (ROUTE + "    recipients: []\n", ["3:17: an empty list, expected at least one entry"]),
        (ROUTE + "    recipients: [a@b.c, example.com]\n", ["3:25: 'example.com', expected an address or a pattern like *@example.com (did you mean '*@example.com'?)"]),
        (ROUTE + "    recipients: a b@example.com\n", ["3:17: 'a b@example.com', expected an address or a pattern like *@example.com"]),
        (ROUTE + "    recipients: '*'\n    clients: [10.0.0.0/33, everybody]\n", [
            f"4:15: '10.0.0.0/33', expected authenticated, {NETWORK}",
            f"4:28: 'everybody', expected authenticated, {NETWORK}",
        ]),
        (ROUTE + "    recipients: '*'\n    clients: []\n", ["4:14: an empty list, expected at least one entry"]),
        *(
            (f"relay: [{{recipients: '*', to: {server!r}}}]\n", [f"1:31: {server!r}, expected a server like smtp://mail.example.com:25 (or inbox or discard alone)"])
            for server in ("inbx", "mail:25", "http://a", "smtp://a:99999", "smtp://a:0", "smtp://u@a", "smtp://[::1", "smtp://")
        ),
        ("relay: [{recipients: '*', to: []}]\n", ["1:31: an empty list, expected at least one entry"]),
        ("relay: [{recipients: '*', to: {host: a, port: 70000, tls: always}}]\n", [
            "1:47: 70000, expected at most 65535",
            "1:59: 'always', expected 'none', 'opportunistic', 'required' or 'implicit'",
        ]),
        ("relay: [{recipients: '*', to: {host: a, auth: {username: u, password_file: p}}}]\n", ["1:76: 'p', expected a file that exists and can be read"]),
        ("relay: [{recipients: '*', to: {host: a, ca: rules.yaml}}]\n", ["1:45: 'rules.yaml', expected a PEM file of certificates"]),
        # limits and store
        ("limits: {message_size: 32Mib, line: -1, memory: 0, recipients: 0, connections: '5'}\n", [
            "1:24: '32Mib', expected a size like 32MiB or 500KB",
            "1:37: -1, expected a size like 32MiB or 500KB",
            "1:49: 0, expected a size like 32MiB or 500KB",
            "1:64: 0, expected at least 1",
            "1:80: '5', expected a whole number",
        ]),
        ("limits: {command_time: 5 minutes, data_time: 0s, idle_time: true}\n", [
            "1:24: '5 minutes', expected a time like 10s, 5m or 250ms",
            "1:46: '0s', expected a time like 10s, 5m or 250ms",
            "1:61: true, expected a time like 10s, 5m or 250ms",
        ]),
        ("limits: {recipients: 0x10, auth_failures: 010, connections: 1:30}\n", [
            "1:22: '0x10', expected a whole number",
            "1:43: '010', expected a whole number",
            "1:61: '1:30', expected a whole number",
        ]),
        ("store: {url: 'mysql://root:secret@x/y'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        ("store: {url: 'postgresql://u:secret@h/n'}\n", ["1:14: a password in the URL, expected it in password_file"]),
        ("store: {url: 'postgresql://h/n?user=a&password=secret'}\n", ["1:14: a password in the URL, expected it in password_file"]),
        ("store: {url: 'postgresql://h/n?passw%6Frd=secret'}\n", ["1:14: a password in the URL, expected it in password_file"]),
        ("store: {url: 'postgresql://'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        ("store: {url: 'postgresql://h /n'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        ("store: {password_file: rules.yaml}\n", ["1:8: password_file without a server, expected url: postgresql://USER@HOST/DATABASE"]),
        ("store: {url: 'postgresql://h/n', password_file: gone}\n", ["1:49: 'gone', expected a file that exists and can be read"]),
        ("store: {url: 'sqlite:///:memory:'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        ("store: {url: 'memory:'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        ("store: {url: 'sqlite://'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        ("store: {url: 'sqlite://host/a.db'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        ("store: {url: 'sqlite:///a.db?mode=ro'}\n", [f"1:14: not a store URL, {STORE_URL}"]),
        # addresses
        ("listen: ['[::1]:25', '[::1]:25']\n", ["1:22: the address '[::1]:25' is used twice"]),
        ("listen: 127.0.0.1:25\nweb: 127.0.0.1:25\n", ["2:6: the address '127.0.0.1:25' is used twice"]),
        ("listen: ['127.0.0.1:0', '127.0.0.1:0']\nweb: 127.0.0.1:0\n", []),
        # lists
        ("lists: {partners: nope.txt}\n", ["1:19: list 'partners': nope.txt cannot be read: No such file or directory, expected a text file of entries"]),
        ("lists: {partners: .}\n", ["1:19: list 'partners': . cannot be read: Is a directory, expected a text file of entries"]),
        ("lists: {a b: x.txt, c: 5}\n", [
            "1:9: 'a b', expected a name of at most 64 letters, digits, '_' and '-' that begins with a letter",
            "1:24: 5, expected a path",
        ]),
        (RULE + "    when: {sender: [a@b.c, $partners]}\n", ["4:28: unknown list '$partners', expected a name from the section lists"]),
        # rules
        ("rules: [{filter: match}, {name: a}]\n", ["1:9: the key 'name' is missing under rules", "1:26: the key 'filter' is missing under rules"]),
        (RULE + "    filtr: x\n", [f"4:5: unknown key 'filtr' (did you mean 'filter'?), expected one of: {RULE_KEYS}"]),
        (RULE + "  - name: a\n    filter: match\n", ["4:11: the name 'a' is already used in line 2"]),
        ("rules: [{name: a b, filter: match}]\n", ["1:16: 'a b', expected a name of at most 64 letters, digits, '.', '_' and '-' that begins with a letter or digit"]),
        (RULE + "    action: rejct\n    mode: on\n    on_error: accept\n    timeout: soon\n", [
            "4:13: 'rejct' (did you mean 'reject'?), expected 'accept', 'reject', 'defer', 'discard', 'quarantine', 'tag', 'score' or 'hold'",
            "5:11: 'on', expected 'enforce' or 'observe'",
            "6:15: 'accept', expected 'defer', 'skip' or 'quarantine'",
            "7:14: 'soon', expected a time like 10s, 5m or 250ms",
        ]),
        (RULE + "    with: [a]\n", ["4:11: a list, expected a mapping"]),
        *(
            (RULE + f"    action: {action}\n    reply: {reply!r}\n", [f"{place}: {what}"])
            for action, reply, place, what in [
                ("reject", "no", "5:12", "'no' is not a reply: expected like '550 5.7.1 Not accepted here'"),
                ("reject", "550 4.7.1 x", "5:12", "enhanced status code 4.7.1 does not fit reply code 550"),
                ("reject", "550 {nope}", "5:12", "unknown field {nope}: the fields are {rule}, {reason}, {id}, {sender}, {recipient}, {client}"),
                ("reject", "550 {rule", "5:12", "a brace { that opens no field"),
                ("reject", "{rule}", "5:12", "'{rule}' is not a reply: expected like '550 5.7.1 Not accepted here'"),
                ("reject", "450 x", "2:5", "the reply code 450, expected 5xx with action: reject"),
                ("defer", "550 x", "2:5", "the reply code 550, expected 4xx with action: defer"),
                ("discard", "550 x", "2:5", "reply with action: discard, expected it only with reject or defer"),
            ]
        ),
        (RULE + "    reply: 250 x\n", ["2:5: the reply code 250, expected 4xx or 5xx without an action"]),
        (RULE + "    action: tag\n", ["2:5: action: tag without tag, expected a section tag with add, remove or subject"]),
        (RULE + "    tag: {subject: x}\n", ["2:5: tag without action: tag"]),
        (RULE + "    action: tag\n    tag: {}\n", ["5:10: tag is empty, expected add, remove or subject"]),
        (RULE + '    action: tag\n    tag: {add: {"X Y": a}, remove: ["a:"], subject: "a\\nb"}\n', [
            f"5:16: 'X Y' {NO_FIELD_NAME}",
            f"5:36: 'a:' {NO_FIELD_NAME}",
            "5:53: 'a\\nb' is not allowed in a header field, expected text without control characters and line ends",
        ]),
        # when
        (RULE + "    when: {}\n", [f"4:11: an empty mapping, expected a mapping of conditions: {WHEN_KEYS}"]),
        (RULE + "    when: {sendr: a@b.c}\n", [f"4:12: unknown key 'sendr' (did you mean 'sender'?), expected one of: {WHEN_KEYS}"]),
        (RULE + "    when: {not: {any: [{tls: yes}, {size: 10}, {client: [x]}]}}\n", [
            "4:30: 'yes', expected true or false",
            "4:43: 10, expected a comparison like '>10MiB' or '<1KB'",
            f"4:58: 'x', expected {NETWORK}",
        ]),
        (RULE + "    when: {header: {'X Y': a, B: 5}, size: '>ten', helo: 1, any: [], recipient: nobody}\n", [
            "4:21: 'X Y', expected a header field's name",
            "4:34: 5, expected text with * for any characters",
            "4:44: '>ten', expected a size like 32MiB or 500KB",
            "4:58: 1, expected text with * for any characters",
            "4:66: an empty list, expected a list of conditions",
            "4:81: 'nobody', expected an address or a pattern like *@example.com",
        ]),
    ],
)  # fmt: skip
def test_every_mistake_is_named_with_its_place_and_what_was_expected(problems, text, lines):
    found = problems(text)
    assert found == [f"rules.yaml:{line}" for line in lines]


@pytest.mark.parametrize("key", ["[a]", "{a: b}", "? [a, {b: c}]\n   "])
def test_a_key_that_is_no_text_hides_no_other_mistake(problems, key):
    found = problems(
        f"limits: {{line: x}}\nrules:\n - name: a\n   filter: keywords\n   {key}: 1\n   with: {{}}\n"
    )
    assert found[0].startswith("rules.yaml:1:")
    assert any("a key that is not text" in line for line in found)


def test_all_problems_are_named_in_the_order_of_the_file(problems):
    found = problems("mixd: x\nlimits: {line: x}\nrules: [{name: a, filtr: b}]\nlists: {p: q}\n")
    assert [line.split(":")[1:3] for line in found] == [
        ["1", "1"],
        ["2", "16"],
        ["3", "9"],
        ["3", "19"],
        ["4", "12"],
    ]


def test_the_same_mistake_many_times_is_cut_short(problems):
    found = problems(f"relay: [{{recipients: [{', '.join(f'a{n}' for n in range(200))}], to: inbox}}]\n")
    assert len(found) == 51
    assert found[-1] == "rules.yaml: 150 more problems"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: None, "rules.yaml: cannot be read: No such file or directory"),
        (lambda path: path.mkdir(), "rules.yaml: a folder without settings, expected files *.yaml in it"),
        (lambda path: path.write_bytes(b"a: b\nc: \xff\n"), "rules.yaml:2:4: not UTF-8 text, expected UTF-8"),
        (lambda path: path.write_bytes(b"#" * ((1 << 20) + 1)), "rules.yaml: is larger than 1 MiB"),
    ],
    ids=["missing", "directory", "not UTF-8", "large"],
)
def test_a_file_that_is_no_text_is_named(tmp_path, monkeypatch, make, line):
    monkeypatch.chdir(tmp_path)
    make(Path("rules.yaml"))
    with pytest.raises(ConfigError) as caught:
        load(Path("rules.yaml"))
    assert str(caught.value) == line


def test_aliases_of_aliases_cannot_fill_the_memory(problems):
    bomb = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    (line,) = problems(bomb)
    assert line.endswith("more than 200,000 values, counting aliases")


def test_half_a_surrogate_pair_is_no_text(problems, monkeypatch):
    monkeypatch.setattr(
        "gatepost.config.document._CoreLoader", yaml.SafeLoader
    )  # libyaml refuses it by itself
    assert problems('rules: [{name: a, filter: "\\ud800"}]\n') == [
        "rules.yaml:1:27: half a surrogate pair, expected text"
    ]


def test_plain_aliases_are_followed(loaded):
    config = loaded(
        "x: &c [10.0.0.0/8]\n".replace(
            "x:", "lists: {}\nrelay:\n  - recipients: '*'\n    to: inbox\n    clients:"
        )
        + "  - {recipients: '*', to: discard, clients: *c}\n"
    ).config
    assert config.relay[0].clients == config.relay[1].clients == (ipaddress.ip_network("10.0.0.0/8"),)


def test_only_true_false_null_and_decimal_numbers_are_not_text(tmp_path):
    path = tmp_path / "a.yaml"
    words = [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "12:30:45",
        "0o17",
        "017",
        "0x1F",
        "2024-01-01",
        "1e3",
        ".inf",
        "1_000",
        "tRue",
        "=",
    ]
    path.write_text(
        "a: [" + ", ".join(words) + "]\nb: [true, True, FALSE, ~, null, 12, -3, 1.5, '12', \"true\"]\n"
    )
    data = read_settings(path).document.data
    assert data == {"a": words, "b": [True, True, False, None, None, 12, -3, 1.5, "12", "true"]}


def test_defaults_need_no_line(loaded, tmp_path):
    config = loaded("mixed_recipients: defer\n").config
    assert config.hostname
    assert [listener.address for listener in config.listen] == ["127.0.0.1:2525"]
    assert config.store.url == f"sqlite:///{tmp_path}/gatepost.db"
    assert (config.limits.message_size, config.limits.command_time) == (32 << 20, 300.0)


def test_one_value_stands_for_a_list_of_one(loaded):
    config = loaded(
        "listen: '[::1]:2525'\nrelay:\n  - {recipients: a@example.com, clients: authenticated, to: 'smtps://[2001:db8::1]'}\n"
        "  - {recipients: '*', to: [smtp://a, {host: b, port: 2525, tls: none}]}\n"
    ).config
    assert config.listen[0].address == "[::1]:2525"
    assert config.relay[0].clients == ("authenticated",)
    assert [str(server) for server in config.relay[0].to] == ["[2001:db8::1]:465"]
    assert [(str(server), server.tls) for server in config.relay[1].to] == [
        ("a:25", "opportunistic"),
        ("b:2525", "none"),
    ]


def test_paths_are_relative_to_the_settings_file_not_to_the_current_folder(tmp_path, monkeypatch):
    folder = tmp_path / "etc"
    folder.mkdir()
    for name in ("c.pem", "k.pem", "users.yaml", "password", "p.txt"):
        (folder / name).write_text("x@example.com\n")
    make_certificate(folder)[0].rename(folder / "c.pem")
    (folder / "rules.yaml").write_text(
        "listen: {address: 'a:1', tls: {certificate: c.pem, key: k.pem}, auth: {users: users.yaml}}\n"
        "relay: [{recipients: $p, to: {host: a, ca: c.pem, auth: {username: u, password_file: password}}}]\n"
        "lists: {p: p.txt}\nstore: {url: 'sqlite:///a/b.db'}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load(Path("etc/rules.yaml")).config
    listener, server = config.listen[0], config.relay[0].to[0]
    assert (listener.tls.certificate, listener.auth.users) == (folder / "c.pem", folder / "users.yaml")
    assert (server.ca, server.auth.password_file) == (folder / "c.pem", folder / "password")
    assert (config.store.url, config.lists["p"]) == (f"sqlite:///{folder}/a/b.db", folder / "p.txt")


def test_a_store_url_that_is_not_relative_stays(loaded):
    assert loaded("store: {url: 'sqlite:////var/a.db'}\n").config.store.url == "sqlite:////var/a.db"


def test_lists_are_put_in_where_they_are_named(loaded, tmp_path):
    (tmp_path / "p.txt").write_text("# partners\n*@a.example\n\n  b@b.example # the boss\r\nc#c@c.example\n")
    (tmp_path / "none.txt").write_text("# nobody yet\n")
    config = loaded(
        "lists: {p: p.txt, none: none.txt}\nrelay: [{recipients: [x@y.z, $p, '*@z.z'], to: inbox}]\n"
        "rules:\n  - name: a\n    filter: match\n    when: {sender: $none, header: {X: $$p}}\n"
        "    with: {words: [$none, $p], one: $p, literal: $$p, price: $5, deep: [{words: [$p]}], p: a $p}\n"
    ).config
    entries = ["*@a.example", "b@b.example", "c#c@c.example"]
    assert config.relay[0].recipients == ("x@y.z", *entries, "*@z.z")
    assert config.rules[0].with_ == {
        "words": entries, "one": entries, "literal": "$p", "price": "$5", "deep": [{"words": entries}], "p": "a $p",
    }  # fmt: skip


def test_a_wrong_entry_is_named_with_its_place_in_the_list(problems, tmp_path):
    (tmp_path / "p.txt").write_text("a@a.example\n\nb.example\n")
    (tmp_path / "bad.txt").write_bytes(b"a\nb\xff\n")
    route = "relay: [{recipients: ['*@c.example', $p, nonsense], to: inbox}]\n"
    entry, other = problems("lists: {p: p.txt}\n" + route)
    assert (
        entry
        == f"{tmp_path}/p.txt:3:1: 'b.example', expected an address or a pattern like *@example.com (did you mean '*@b.example'?)"
    )
    assert other.startswith("rules.yaml:2:42: 'nonsense', expected")
    assert problems("lists: {p: bad.txt}\n") == [f"{tmp_path}/bad.txt:2:2: not UTF-8 text, expected UTF-8"]


def test_a_tag_is_a_list_of_edits(loaded):
    config = loaded(RULE + "    action: tag\n    tag: {add: {X-A: b}, remove: X-A, subject: '[x] '}\n").config
    assert config.rules[0].tag.edits == (RemoveHeader("X-A"), AddHeader("X-A", "b"), PrefixSubject("[x] "))


@pytest.mark.parametrize(
    ("written", "octets"),
    [("1", 1), ("1B", 1), ("2KiB", 2048), ("2 KB", 2000), ("3MiB", 3 << 20), ("1GB", 10**9)],
)
def test_sizes_are_octets(loaded, written, octets):
    assert loaded(f"limits: {{memory: {written}}}\n").config.limits.memory == octets


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1", 1), ("0.5", 0.5), ("250ms", 0.25), ("1.5 m", 90), ("2h", 7200), ("1d", 86400)],
)
def test_times_are_seconds(loaded, written, seconds):
    assert loaded(f"limits: {{idle_time: {written}}}\n").config.limits.idle_time == seconds


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8),
    st.sampled_from(["$p", "$$", "*@a.b", "10.0.0.0/8", "10s", ">1KB", "inbox", "smtp://a", "550 {x}", "tag", "a:1"]),
)  # fmt: skip
_WORDS = [
    *Config.model_fields,
    *[
        "recipients",
        "to",
        "clients",
        "name",
        "filter",
        "with",
        "when",
        "action",
        "reply",
        "tag",
        "not",
        "any",
        "all",
        "header",
        "size",
        "url",
        "add",
    ],
]
_DATA = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4), max_leaves=20
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_arbitrary_octets_raise_nothing_but_config_error(tmp_path, content):
    path = tmp_path / "rules.yaml"
    path.write_bytes(content)
    _loads_or_says_why(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(st.sampled_from(sorted(Config.model_fields)), _DATA, min_size=1))
def test_arbitrary_settings_raise_nothing_but_config_error(tmp_path, data):
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps(data, ensure_ascii=True).replace("\\ud", "ud"), "utf-8")
    _loads_or_says_why(path)


def _loads_or_says_why(path):
    lines = []
    try:
        load(path)
    except ConfigError as error:
        lines = str(error).splitlines() or [""]
    assert all(line.startswith(str(path)) and line.isprintable() for line in lines)
