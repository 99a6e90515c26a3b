"""The link that a message is about, in mail as applications and shops send it."""

import pytest
from gatepost.web.view import view_message

TOKEN = "9f8e7d6c5b4a39281706"
RESET = f"https://shop.example/password?token={TOKEN}"
LOGO = '<a href="https://shop.example/"><img alt="Shop" src="https://shop.example/l.png"></a>'
TRACKED_LOGO = (
    f'<a href="https://click.example/ls?u={TOKEN}"><img alt="Shop" src="https://shop.example/l.png"></a>'
)
FOOT = """
<p><a href="https://shop.example/help">Help center</a> <a href="https://shop.example/privacy">Privacy</a>
<a href="https://shop.example/prefs/8">Notification settings</a> <a href="mailto:a@b.example">Write to us</a>
<a href="https://twitter.com/shop/confirm"><img src="https://shop.example/t.png" alt="Twitter"></a>
<a href="https://shop.example/u?id=9f8e7d6c5b4a39281706">Unsubscribe</a>
<a href="https://shop.example/mail/77">View this email in your browser</a></p>
"""


def plain(text):
    return f"Subject: s\nContent-Type: text/plain; charset=utf-8\n\n{text}".encode()


def page(html):
    return f"Subject: s\nContent-Type: text/html; charset=utf-8\n\n{LOGO}{html}{FOOT}".encode()


def both(text, html):
    return (
        "Subject: s\nContent-Type: multipart/alternative; boundary=b\n\n"
        f"--b\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
        f"--b\nContent-Type: text/html; charset=utf-8\n\n{LOGO}{html}{FOOT}\n--b--\n"
    ).encode()


def button(words, href, style="background:#0a6;color:#fff"):
    return f'<a href="{href}" style="{style}">{words}</a>'


def cell(words, href):
    return f'<table><tr><td bgcolor="#0000ff"><a href="{href}"><b>{words}</b></a></td></tr></table>'


S = "https://shop.example"


@pytest.mark.parametrize(
    ("content", "words", "href"),
    [
        # Password reset
        (page(button("Reset password", RESET)), "Reset password", RESET),
        (page(f'<a href="{RESET}">Choose a new password</a>'), "Choose a new password", RESET),
        (page(f'<p>Copy this into your browser: <a href="{RESET}">{RESET}</a>'), "", RESET),
        (page(f'<p>To reset your password, click <a href="{S}/r/1">here</a>.'), "here", f"{S}/r/1"),
        (
            page(
                f'{button("Reset password", RESET)}<a href="{S}/security">Not you? Secure your account</a>'
                f'<p>or copy <a href="{RESET}">{RESET}</a><a href="{S}/login">Log in</a>'
            ),
            "Reset password",
            RESET,
        ),
        # Confirmation
        (page(cell("Confirm email address", f"{S}/c/1")), "Confirm email address", f"{S}/c/1"),
        (
            page(f'<a class="btn btn-big" href="{S}/v/1">Verify</a> <a href="{S}/tour">Tour</a>'),
            "Verify",
            f"{S}/v/1",
        ),
        (
            page(f'<a href="{S}/v/1"><img src="https://shop.example/b.png" alt="Verify your account"></a>'),
            "Verify your account",
            f"{S}/v/1",
        ),
        (page(button("E-Mail-Adresse bestätigen", f"{S}/b")), "E-Mail-Adresse bestätigen", f"{S}/b"),
        (page(button("Confirmer mon adresse", f"{S}/b")), "Confirmer mon adresse", f"{S}/b"),
        (page(button("メールアドレスを確認する", f"{S}/b")), "メールアドレスを確認する", f"{S}/b"),
        (page(button("تأكيد الحساب", f"{S}/b")), "تأكيد الحساب", f"{S}/b"),
        (page(button("Accept", f"{S}/i/1") + button("Decline", f"{S}/i/2")), "Accept", f"{S}/i/1"),
        # Magic link
        (page(button("Sign in to Shop", f"{S}/a/{TOKEN}")), "Sign in to Shop", f"{S}/a/{TOKEN}"),
        (
            page(f'<a href="{S}/a?t={TOKEN}">Log in</a> <a href="{S}/news/1">What is new</a>'),
            "Log in",
            f"{S}/a?t={TOKEN}",
        ),
        # Invoice, order, parcel
        (
            page(button("View invoice", f"{S}/i/1") + f'<a href="{S}/i/1.pdf">Download PDF</a>'),
            "View invoice",
            f"{S}/i/1",
        ),
        (
            page(cell("Track your parcel", f"{S}/t/1") + f'<a href="{S}/sale">Summer sale</a>'),
            "Track your parcel",
            f"{S}/t/1",
        ),
        (page(f'<a href="{S}/orders/77">Your order 77</a>'), "Your order 77", f"{S}/orders/77"),
        # The only link
        (page(f'<a href="{S}/n/1">What is new in version 2</a>'), "What is new in version 2", f"{S}/n/1"),
        # Text alone
        (plain(f"To reset your password:\n\n{RESET}\n\nHelp: {S}/help\nUnsubscribe: {S}/u/1\n"), "", RESET),
        (
            plain(f"Confirm: <{S}/confirm?token=abc\n def>\nLog in: {S}/login"),
            "",
            f"{S}/confirm?token=abcdef",
        ),
        (plain(f"See {S}/a for more."), "", f"{S}/a"),
        # The HTML decides if there is one.
        (both(f"{S}/other?token={TOKEN}", button("Reset password", RESET)), "Reset password", RESET),
    ],
)
def test_the_main_link(content, words, href):
    found = view_message(content).main_link
    assert found
    assert (found.text, found.href) == (words, href)


@pytest.mark.parametrize(
    "content",
    [
        page(""),
        page("<p>Hello"),
        page("".join(f'<img alt="">{button("Read more", f"{S}/p/{n}")}' for n in range(4))),
        page("".join(f'<a href="{S}/p/{n}"><img alt="Shoe {n}" src="x"></a>' for n in range(4))),
        page(f'<a href="{S}/a">First</a> <a href="{S}/b">Second</a> <a href="{S}/login">Log in</a>'),
        page(button("Pay now", f"{S}/pay/1") + button("View invoice", f"{S}/i/1")),
        page(f'<div style="display:none">{button("Reset password", RESET)}</div>'),
        page(button("Confirm that you want to unsubscribe", f"{S}/c/1")),
        page(button("Reset", "mailto:reset@shop.example")),
        page(button("Shop now", S)),
        page('<a href="https://apps.apple.com/app/id1">Verify in the app</a>'),
        page(f"{TRACKED_LOGO}<p>Hello"),
        plain(f"{S}/a and {S}/b"),
        plain(f"Visit {S}/"),
        plain("No link. Reset your password at the counter."),
        plain("reset: javascript:alert(1) mailto:reset@shop.example"),
        b"",
    ],
)
def test_no_link_is_clearly_the_main_one(content):
    assert view_message(content).main_link is None


@pytest.mark.parametrize(
    "href", ["javascript:alert(1)", "data:text/html,x", "http://[", "//shop.example/reset", "#reset"]
)
def test_what_is_no_web_address_is_never_the_main_link(href):
    assert view_message(page(button("Reset password", href))).main_link is None


def test_finding_it_is_linear(within_yardsticks):
    token = "a1" * 500
    links = (button("Reset " * 30, f"{S}/{n}?t={token}") for n in range(3000))
    html = "".join(f'<table><tr><td bgcolor="red">{link}' for link in links)
    with within_yardsticks(1000):
        view_message(page(html))
