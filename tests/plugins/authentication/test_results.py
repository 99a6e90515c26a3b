# ruff: noqa: E501 - the cases are one line each
"""Authentication-Results: whose a field is, however it is spelled, and how ours is written."""

import json
import subprocess

import pytest
from gatepost_authentication.results import MethodResult, authserv_id, claims_to_be, results_of, results_value


@pytest.mark.parametrize(
    ("value", "server"),
    [
        ("mx.example.com; spf=pass", "mx.example.com"),
        (" MX.Example.COM; none", "mx.example.com"),
        ("\r\n\tmx.example.com;\r\n\tspf=pass", "mx.example.com"),
        ("mx.example.com 1; spf=pass", "mx.example.com"),
        ("(a comment) mx.example.com; none", "mx.example.com"),
        ("(a (nested) \\) comment) (another)mx.example.com; none", "mx.example.com"),
        ('"mx.example.com"; none', "mx.example.com"),
        ('"mx\\.example.com" 1; none', "mx.example.com"),
        ("mx.example.com(comment); none", "mx.example.com"),
        ("mx.example.com", "mx.example.com"),
        ("other.example.org; spf=pass", "other.example.org"),
        ("", None),
        ("; spf=pass", None),
        ("(open mx.example.com; none", None),
        ("(only a comment)", None),
        ("ünï.example; none", "ünï.example"),
    ],
)
def test_whose_a_field_is(value, server):
    assert authserv_id(value) == server


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        *[
            (f"{name}; dkim=pass", True)
            for name in (
                "mx.example.com", "MX.Example.com 1", "mx . example\t.\r\n com 1", "mx(x).(y)example. com", "mx.example.com.",
                "mx.example.com (c)1", "mx\\.example.com", "mx.exa\\mple.com", "mx .)example. \\com) 1", 'mx."example".com',
                'mx"."example.com', '""mx.example.com', 'mx.example.""com', '"mx."example.com 1', "mx.example.com.(open", "",
            )
        ],
        *[
            (f"{name}; dkim=pass", False)
            for name in ("mx.example.org", "mx.example.com.evil.example", "mx example.org", "1", "x.mx.example.com")
        ],
    ],
)  # fmt: skip
def test_a_field_that_some_reader_takes_for_ours(value, is_taken):
    assert claims_to_be(value, "mx.example.com") is is_taken


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("i=1; mx.example.com; dmarc=pass header.from=a.example", True),
        ("i=1; mx.example.com; DMARC = PASS", True),
        ("i=1; mx.example.com; dmarc=fail (dmarc=pass)", False),
        ("i=1; mx.example.com; dmarc=fail (; dmarc=pass)", False),
        ("i=1; mx.example.com; dmarc=fail ((;) ; dmarc=pass)", False),
        ('i=1; mx.example.com; spf=fail smtp.mailfrom="; dmarc=pass"', False),
        ("i=1; mx.example.com; x-dmarc=pass", False),
        ('i=1; mx.example.com; spf=fail (a "( ") ; dmarc=pass )', False),
        ("i=1; mx.example.com; spf=fail (\\) ; dmarc=pass )", False),
        ('i=1; mx.example.com; spf=fail smtp.mailfrom="a(" (b) ; dmarc=pass', True),
    ],
)
def test_what_a_field_states_outside_comments_and_quotes(value, found):
    assert (("dmarc", "pass") in results_of(value)) == found


def test_ours_is_written_safely():
    hostile = MethodResult(
        method="spf",
        result="fail",
        comment='a) ; dmarc=pass (\r\n\\" ü',
        properties={"smtp.mailfrom": 'x"; dmarc=pass', "header.d": "", "header.s": "a.b-c_d"},
    )
    value = results_value("mx.example.com", [hostile])
    assert value == (
        'mx.example.com; spf=fail (a dmarc=pass) smtp.mailfrom="x\\"; dmarc=pass" header.s=a.b-c_d'
    )
    assert results_of(value) == {("spf", "fail")}


READ = """
local results = require "lua_auth_results"
local json = require("ucl").to_format
for part in io.lines(FILE) do
  print(json(results.parse_ar_element(part) or {}, "json-compact"))
end
"""


@pytest.mark.real("rspamadm")
def test_rspamd_reads_every_result(tmp_path):
    """By the function with which its ARC module reads each part, without the blanks around it."""
    results = [
        MethodResult(
            method="spf",
            result="pass",
            comment="ip4:192.0.2.1/24; a (b) \\ ü",
            properties={"smtp.mailfrom": "xn--mnchen-3ya.example"},
        ),
        MethodResult(
            method="dkim",
            result="fail",
            comment="the body was changed",
            properties={"header.d": "a_b.example", "header.s": "s-1", "header.a": "rsa-sha256"},
        ),
        MethodResult(
            method="dkim", result="pass", properties={"header.d": "b.example", "header.b": "AZ+/09=="}
        ),
        MethodResult(method="arc", result="none"),
        MethodResult(method="dmarc", result="temperror", properties={"header.from": "c.example"}),
    ]
    server, *parts = results_value("mx.example.com", results).split(";")
    file, script = tmp_path / "parts", tmp_path / "read.lua"
    file.write_text("".join(f"{part.strip()}\n" for part in parts))
    script.write_text(READ.replace("FILE", json.dumps(str(file))))
    done = subprocess.run(
        ["rspamadm", "lua", "-b", script], capture_output=True, text=True, timeout=60, check=True
    )
    read = [json.loads(line) for line in done.stdout.splitlines()]
    assert server == "mx.example.com"
    assert len(read) == len(results)
    for one, found in zip(results, read, strict=True):
        plain = {name: value for name, value in one.properties.items() if name != "header.b"}
        assert found | {one.method: one.result} | plain == found
