# ruff: noqa: E501 - the cases are one line each
"""Authentication-Results: whose a field is, however it is spelled, and how ours is written."""

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
