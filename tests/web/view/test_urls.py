"""URLs in plain text: what is a link, where it ends and where it leads."""

import pytest
from gatepost.web.view.urls import link_urls, urls_in

A = "https://a.example/x"


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        (f"See {A}.", [A]),
        (f"{A}, {A}; {A}! ({A}) [{A}] “{A}” «{A}» '{A}'", [A] * 8),
        (f"{A}... {A}?! {A}… {A}:", [A] * 4),
        (f"({A}_(y)) {A}?a[]=1", [f"{A}_(y)", f"{A}?a[]=1"]),
        (f"*{A}* _{A}_ ~{A}~", [A] * 3),
        (f"{A}?token=ab_ {A}?t=c* {A}/-", [f"{A}?token=ab_", f"{A}?t=c*", f"{A}/-"]),
        (f"{A}?a=1&b=2#c;", [f"{A}?a=1&b=2#c"]),
        (f"HTTP://A.EXAMPLE {A}", ["HTTP://A.EXAMPLE", A]),
        (
            "http://[2001:db8::1]:80/ http://localhost:3000",
            ["http://[2001:db8::1]:80/", "http://localhost:3000"],
        ),
        ("https://münchen.example/straße", ["https://münchen.example/straße"]),
        (
            "请访问https://例え.jp/パス。谢谢「https://a.example」",
            ["https://例え.jp/パス", "https://a.example"],
        ),
        ("mailto:bob@example.com?subject=Hi%20Bob.", ["mailto:bob@example.com?subject=Hi%20Bob"]),
        # In angle brackets (RFC 3986 appendix C).
        (f"<{A}> <URL:{A}> <url:{A}.>", [A, A, f"{A}."]),
        ("<https://a.example/lon\n  g?x=1\n&y=2>", ["https://a.example/long?x=1&y=2"]),
        ("<https://a.example/long?x=1\n>", ["https://a.example/long?x=1"]),
        (f"<{A}\nAnd so on, for a while>", [A]),
        (f"<{A}\n\n\nx>", [A]),
        (f"<{A}", [A]),
        (f'<a href="{A}">', [A]),
        # No links.
        ("javascript:alert(1) data:text/html,x vbscript:x file:///etc/passwd ftp://a.example", []),
        ("www.example.com bob@example.com xhttps://a.example https:/a.example https//a.example", []),
        ("http:// https://. https://) mailto: mailto:. https://…", []),
        ("", []),
    ],
)
def test_what_is_a_link_in_a_text(text, urls):
    assert [found.url for found in urls_in(text)] == urls
    pieces = link_urls(text)
    assert "".join(piece.text for piece in pieces) == text, "nothing of it is lost"
    assert [piece.href for piece in pieces if piece.href] == urls


def test_so_many_links_are_made_and_the_text_is_whole():
    text = f"{A} " * 2100
    pieces = link_urls(text)
    assert sum(bool(piece.href) for piece in pieces) == 2000
    assert "".join(piece.text for piece in pieces) == text


@pytest.mark.parametrize(
    "text",
    [
        ":",
        "h",
        "https://",
        "<https://a\n",
        "https://a" + ")" * 50,
        "https://a\t",
        "<https://",
        "\n",
        "<URL:m",
    ],
)
def test_it_takes_as_long_as_the_text_is(text, within_yardsticks):
    with within_yardsticks(500):
        link_urls(text * (500_000 // len(text)))
    with within_yardsticks(500):
        link_urls("<https://a" + text * (500_000 // len(text)))
