"""What a person types becomes an entry that can match, once, in a list that takes such entries."""

import pytest
from gatepost.config.list_entries import covered_by, entry_for, expected_by
from gatepost.config.lists import entries_of, uses_of_list


@pytest.mark.parametrize(
    ("typed", "kind", "text"),
    [
        ("spammer@example.net", "senders", "spammer@example.net"),
        (" <spammer@example.net> ", "senders", "spammer@example.net"),
        ('"a b"@example.net', "senders", '"a b"@example.net'),
        ("<>", "senders", "<>"),
        ("example.net", "senders", "*@example.net"),
        ("@example.net", "senders", "*@example.net"),
        (".example.net", "senders", "*@*.example.net"),
        ("*.example.net", "senders", "*@*.example.net"),
        ("*@*.example.net", "senders", "*@*.example.net"),
        ("bücher.example", "senders", "*@bücher.example"),
        ("a@[192.0.2.1]", "senders", "a@[192.0.2.1]"),
        ("192.0.2.1", "clients", "192.0.2.1"),
        ("192.0.2.1/32", "clients", "192.0.2.1"),
        ("10.0.0.0/8", "clients", "10.0.0.0/8"),
        ("2001:DB8:0::1", "clients", "2001:db8::1"),
        ("2001:db8::/32", "clients", "2001:db8::/32"),
    ],
)
def test_an_entry_is_known_by_its_form(typed, kind, text):
    entry = entry_for(typed)
    assert (entry.kind, entry.text) == (kind, text)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "expected an address"),
        ("localhost", "expected an address"),
        ("a b@example.net", "expected an address"),
        ("a@b\nc@d.example", "expected an address"),
        ("a@example..net", "never matches: a label of its domain is empty"),
        ("exa_mple.net/", "never matches"),
        ("300.0.2.1/24", "never matches"),
        ("10.0.0.1/8", r"did you mean '10\.0\.0\.0/8'"),
        ("fe80::1%eth0", "expected an address"),
        ("#a@example.net", "# at its start or after a space"),
        ('"a #b"@example.net', "# at its start or after a space"),
        ("\udcff@example.net", "expected an address|never matches"),
        ("*", r"'\*' matches all mail"),
        ("*@*", "matches all mail"),
        ("0.0.0.0/0", "matches all mail"),
        ("::/0", "matches all mail"),
    ],
)
def test_what_can_never_match_is_refused(typed, told):
    with pytest.raises(ValueError, match=told):
        entry_for(typed)


@pytest.mark.parametrize(
    ("typed", "line", "covered"),
    [
        ("a@example.net", "a@example.net", True),
        ("a@example.net", "A@EXAMPLE.net.  # yesterday", True),
        ("a@example.net", '"a"@example.net', True),
        ("a@example.net", "*@example.net", True),
        ("a@mail.example.net", "*@*.example.net", True),
        ("a@example.net", "*@*.example.net", False),
        ("a@example.net", "ba@example.net", False),
        ("a@example.net", "# a@example.net", False),
        ("a@xn--bcher-kva.example", "*@bücher.example", True),
        ("example.net", "*@EXAMPLE.net", True),
        ("example.net", "a@example.net", False),
        ("<>", "<>", True),
        ("<>", "*@example.net", False),
        ("192.0.2.1", "192.0.2.0/24", True),
        ("192.0.2.0/24", "192.0.2.0/24 # net", True),
        ("192.0.2.0/24", "192.0.2.1", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "0.0.0.0/0", False),
        ("192.0.2.1", "authenticated", False),
    ],
)
def test_what_a_line_matches_already_is_found(typed, line, covered):
    found = covered_by(entry_for(typed), ["", "# a comment", line, line])
    assert found == ((3, next(entries_of([line]))[1]) if covered else None)


USES = {
    "relay": [{"recipients": "$ours", "clients": ["$nets", "10.0.0.0/8"], "to": "$ours"}],
    "rules": [
        {
            "name": "$ours",
            "when": {"any": [{"sender": ["x@y.example", "$bad"]}, {"not": {"client": "$nets"}}]},
        },
        {"with": {"words": "$bad"}, "reply": "$bad"},
    ],
}


@pytest.mark.parametrize(
    ("name", "keys"),
    [("ours", ["recipients"]), ("nets", ["clients", "client"]), ("bad", ["sender", "words"]), ("none", [])],
)
def test_the_uses_of_a_list_are_where_it_is_expanded(name, keys):
    assert [key for _, key in uses_of_list(USES, name)] == keys


@pytest.mark.parametrize(
    ("keys", "typed", "fits"),
    [
        (["sender"], "a@example.net", True),
        (["recipients"], "a@example.net", True),
        (["words"], "a@example.net", True),
        (["words"], "192.0.2.1", True),
        (["client"], "192.0.2.1", True),
        (["client"], "a@example.net", False),
        (["sender", "client"], "a@example.net", False),
        (["recipient"], "192.0.2.1", False),
    ],
)
def test_an_entry_of_the_wrong_kind_is_told_what_the_list_takes(keys, typed, fits):
    assert (expected_by(keys, entry_for(typed)) == "") is fits
