# ruff: noqa: E501 - a message is compared as it is shown, on one line
"""``include``: the rules of other files, in a defined order, with the file, line and column of each mistake."""

from pathlib import Path

import pytest
from gatepost.config import load
from gatepost.testing import make_transaction, running_gateway

EXPECTED = "expected a file of rules, or files of one folder like domains/*.yaml"
ALL = "rules:\n  - include: domains/*.yaml\n"


def rule(name, more=""):
    return f"- name: {name}\n  filter: match\n{more}"


@pytest.fixture
def write(tmp_path):
    """Writes files beside rules.yaml."""

    def them(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    return them


@pytest.mark.parametrize(
    ("text", "files", "names"),
    [
        (ALL, {"domains/b.yaml": rule("b"), "domains/a.yaml": rule("a2") + rule("a1"), "domains/10.yaml": rule("ten"), "domains/9.yaml": rule("nine")}, "ten nine a2 a1 b"),
        ("rules:\n- {name: first, filter: match}\n- include: domains/*.yaml\n- {name: last, filter: match}\n", {"domains/a.yaml": rule("a")}, "first a last"),
        (ALL, {"domains/.a.yaml": rule("hidden"), "domains/a.yaml~": rule("backup"), "domains/b.txt": "?", "domains/b.yaml": rule("b")}, "b"),
        ("rules:\n- include: more.yaml\n", {"more.yaml": rule("more")}, "more"),
        ("rules:\n- include: a[b]?.yaml\n", {"a[b]?.yaml": rule("literal")}, "literal"),
        ("rules:\n- include: d/b*.yaml\n- include: d/a*.yaml\n", {"d/a.yaml": rule("a"), "d/b.yaml": rule("b")}, "b a"),
        (ALL, {"domains/a.yaml": "[]\n", "domains/b.yaml": "\ufeff# text\n" + rule("b")}, "b"),
        (ALL, {"domains/a.yaml": "- &a {name: a, filter: match}\n", "domains/b.yaml": "- &a {name: b, filter: match}\n"}, "a b"),
    ],
)  # fmt: skip
def test_rules_are_put_in_by_name_of_the_file_at_the_place_of_the_include(loaded, write, text, files, names):
    write(files)
    assert [one.name for one in loaded(text).config.rules] == names.split()


@pytest.mark.parametrize(
    ("text", "files", "lines"),
    [
        # the include
        ("rules:\n- include: [a.yaml]\n", {}, [f"rules.yaml:2:12: include: a list or a mapping, {EXPECTED}"]),
        ("rules:\n- include:\n", {}, [f"rules.yaml:2:11: include: '', {EXPECTED}"]),
        ('rules:\n- include: "a\\0b"\n', {}, [f"rules.yaml:2:12: include: 'a\\x00b', {EXPECTED}"]),
        ("rules:\n- include: a.yaml\n  when: {tls: true}\n", {"a.yaml": rule("a")}, ["rules.yaml:3:3: the key 'when' beside include, expected include alone"]),
        ("rules:\n- include: none.yaml\n", {}, [f"rules.yaml:2:12: include: 'none.yaml' cannot be read: No such file or directory, {EXPECTED}"]),
        (ALL, {}, ["rules.yaml:2:14: include: the folder 'domains' cannot be read: No such file or directory, expected a folder of files with rules"]),
        ("rules:\n- include: '*/a.yaml'\n", {"d/a.yaml": rule("a")}, [f"rules.yaml:2:12: '*/a.yaml' has a * in the name of a folder, {EXPECTED}"]),
        (ALL, {"domains/a.yaml": None}, [f"rules.yaml:2:14: include: 'domains/a.yaml' cannot be read: Is a directory, {EXPECTED}"]),
        ("rules:\n- include: a.yaml\n- include: '*.yaml'\n", {"a.yaml": "[]"}, ["rules.yaml:1:1: a mapping, expected a list of rules, each beginning with a dash", "rules.yaml:3:12: include: 'a.yaml' is included in line 2 already, expected each file once"]),
        ("include: a.yaml\n", {}, ["rules.yaml:1:1: unknown key 'include', expected one of: hostname, "]),
        # the included file
        (ALL, {"domains/a.yaml": "rules: []\n"}, ["domains/a.yaml:1:1: a mapping, expected a list of rules, each beginning with a dash"]),
        (ALL, {"domains/a.yaml": "text\n"}, ["domains/a.yaml:1:1: 'text', expected a list of rules, each beginning with a dash"]),
        (ALL, {"domains/a.yaml": "# all of it\n"}, ["domains/a.yaml:1:1: the file is empty, expected a list of rules"]),
        (ALL, {"domains/a.yaml": "- include: b.yaml\n"}, ["domains/a.yaml:1:3: an include in an included file, expected rules alone"]),
        (ALL, {"domains/a.yaml": "- text\n"}, ["domains/a.yaml:1:3: 'text', expected "]),
        (ALL, {"domains/a.yaml": "- [\n"}, ["domains/a.yaml:2:1: not YAML: "]),
        (ALL, {"domains/a.yaml": b"- \xff\n"}, ["domains/a.yaml:1:3: not UTF-8 text, expected UTF-8"]),
        (ALL, {"domains/a.yaml": b"- \x01\n"}, ["domains/a.yaml:1:3: not YAML: a control character, expected text"]),
        (ALL, {"domains/a.yaml": b"\n" * (1 << 20) + b"[]"}, ["rules.yaml:2:14: include: 'domains/a.yaml' is larger than 1 MiB, "]),
        (ALL, {"domains/a.yaml": "[" * 40 + "]" * 40}, ["domains/a.yaml:1:33: nested more than 32 deep"]),
        # the rules in it
        (ALL, {"domains/a.yaml": rule("a", "  actoin: reject\n")}, ["domains/a.yaml:3:3: unknown key 'actoin' (did you mean 'action'?), expected one of: "]),
        (ALL, {"domains/a.yaml": rule("a") + "  name: b\n"}, ["domains/a.yaml:3:3: duplicate key 'name', expected each key once (first in line 1)"]),
        (ALL, {"domains/a.yaml": rule("a", "  when: {sender: $none}\n")}, ["domains/a.yaml:3:18: unknown list '$none', expected "]),
        (ALL, {"domains/a.yaml": rule("a"), "domains/b.yaml": rule("b") + rule("a")}, ["domains/b.yaml:3:9: the name 'a' is already used in line 1 of domains/a.yaml"]),
        (ALL + "  - {name: a, filter: match}\n", {"domains/a.yaml": rule("a")}, ["rules.yaml:3:12: the name 'a' is already used in line 1 of domains/a.yaml"]),
        (ALL, {"domains/a.yaml": rule("a", "  when: {hit: [b]}\n"), "domains/b.yaml": rule("b")}, ["domains/a.yaml:3:9: hit asks for the rule 'b', which does not come before this one, expected "]),
        ("hostnam: x\n" + ALL, {"domains/a.yaml": rule("a", "  action: x\n"), "domains/b.yaml": rule("b", "  mode: x\n")}, ["domains/a.yaml:3:11: 'x', expected ", "domains/b.yaml:3:9: 'x', expected ", "rules.yaml:1:1: unknown key 'hostnam'"]),
    ],
)  # fmt: skip
def test_each_mistake_has_its_file_line_and_column(problems, write, text, files, lines):
    write(files)
    found = problems(text)
    assert len(found) == len(lines), found
    for one, begin in zip(found, lines, strict=True):
        assert one.startswith(begin), one


def test_many_small_files_are_bounded_together(problems, write):
    many = "- {name: a, filter: match, with: {words: [" + "a," * 60_000 + "]}}\n"
    write({f"domains/{name}.yaml": many for name in "abcd"})
    assert problems(ALL)[-1].endswith("more than 200,000 values, counting aliases")


def test_an_empty_folder_is_allowed_and_told(loaded, write):
    write({"domains/.keep": ""})
    found = loaded(ALL)
    assert found.config.rules == ()
    (warning,) = map(str, found.warnings)
    assert warning == "rules.yaml:2:14: include: no file matches 'domains/*.yaml'"


def test_paths_in_an_included_file_are_relative_to_the_settings(tmp_path, write):
    write({"etc/rules.yaml": "lists: {ours: ours.txt}\n" + ALL, "etc/ours.txt": "a@example.com\n"})
    write({"etc/domains/a.yaml": rule("a", "  when: {recipient: $ours}\n")})
    (made,) = load(Path(tmp_path, "etc/rules.yaml")).config.rules
    assert made.when is not None


def test_a_reload_reads_the_files_again(tmp_path):
    settings = f"rules:\n- include: {tmp_path}/*.yaml\n"
    with running_gateway(settings) as gateway:
        assert gateway.send(make_transaction()).code == 250
        (tmp_path / "a.yaml").write_text(rule("a", "  action: defer\n"))
        gateway.reload(settings)
        assert gateway.send(make_transaction()).code == 451
