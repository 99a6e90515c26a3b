"""The section `web.webhook`: which URLs and secrets are accepted; no error shows what is secret."""

import base64

import pytest
from gatepost.config import ConfigError, load
from gatepost.config.webhook import WebhookSettings

SECRET = base64.b64encode(bytes(range(32))).decode()


def settings(url):
    return WebhookSettings.model_validate(url)


@pytest.mark.parametrize(
    ("text", "shown", "host", "port", "target", "user"),
    [
        ("http://a", "http://a", "a", 80, "/", None),
        ("HTTPS://A.Example/", "https://a.example", "a.example", 443, "/", None),
        ("https://a:8443/x/y?z=1&z=%20", "https://a:8443", "a", 8443, "/x/y?z=1&z=%20", None),
        ("http://a:80?q", "http://a", "a", 80, "/?q", None),
        ("https://a:80", "https://a:80", "a", 80, "/", None),
        ("http://127.0.0.1:1", "http://127.0.0.1:1", "127.0.0.1", 1, "/", None),
        ("http://[::1]:8/x", "http://[::1]:8", "::1", 8, "/x", None),
        ("http://ann:p%40ss@a/x", "http://a", "a", 80, "/x", "ann:p@ss"),
        ("http://token@a", "http://a", "a", 80, "/", "token:"),
    ],
)
def test_a_url_is_taken_apart(text, shown, host, port, target, user):
    url = settings(text).url
    assert str(url) == shown
    assert (url.host, url.port, url.target, url.user) == (host, port, target, user)


WRONG = [
    ("ftp://ann:hunter2@a/", "the URL's scheme is neither http nor https"),
    ("ann:hunter2@a", "the URL's scheme is neither http nor https"),
    ("//ann:hunter2@a", "the URL's scheme is neither http nor https"),
    ("file:///hunter2", "the URL's scheme is neither http nor https"),
    ("http:///hunter2", "host or port of the URL are wrong"),
    ("http://ann:hunter2@", "host or port of the URL are wrong"),
    ("http://ann:hunter2@a:0/", "host or port of the URL are wrong"),
    ("http://ann:hunter2@a:70000/", "host or port of the URL are wrong"),
    ("http://ann:hunter2@a..b/", "host or port of the URL are wrong"),
    ("http://ann:hunter2@[::1/", "host or port of the URL are wrong"),
    ("http://ann:hunter2@a/#x", "the URL has a fragment"),
    ("http://ann:hunter2@a/ x", "this is not a URL"),
    ("http://a/hunter2\r\nX: y", "this is not a URL"),
    ("http://ann:hunter2@ä.example/", "this is not a URL"),
    ("", "the URL's scheme is neither http nor https"),
    (["http://ann:hunter2@a/"], "this is not a URL"),
    (7, "this is not a URL"),
]


@pytest.mark.parametrize(("value", "says"), WRONG)
@pytest.mark.parametrize("key", ["webhook", "webhook: {url"])
def test_a_wrong_url_is_named_without_what_it_may_hide(tmp_path, value, says, key):
    (tmp_path / "rules.yaml").write_text(f"web: {{{key}: {value!r}{'}' * key.count('{')}}}\n")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "rules.yaml")
    assert f"{says}" in str(raised.value)
    assert "expected an http or https URL like https://hooks.example.com/mail" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_what_is_secret_is_not_in_what_is_printed():
    section = settings("http://ann:hunter2@a/hunter3")
    assert "hunter" not in f"{section!r} {section} {section.url!r} {section.url}"


@pytest.mark.parametrize("line", [SECRET, f"whsec_{SECRET}", f" {SECRET} \r", f"{SECRET}\nmore"])
def test_a_secret_is_base64_on_the_first_line(tmp_path, line):
    (tmp_path / "secret").write_text(f"{line}\n")
    (tmp_path / "rules.yaml").write_text("web: {webhook: {url: 'http://a', secret_file: secret}}\n")
    assert load(tmp_path / "rules.yaml").config.web.webhook.secret == bytes(range(32))


@pytest.mark.parametrize("content", [b"", b"hunter2", b"aHVudGVyMg==", b"\xff" * 40, b"\n" + SECRET.encode()])
def test_a_wrong_secret_is_named_at_its_line_and_not_shown(tmp_path, content):
    (tmp_path / "secret").write_bytes(content)
    (tmp_path / "rules.yaml").write_text("web:\n  webhook:\n    url: http://a\n    secret_file: secret\n")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "rules.yaml")
    said = str(raised.value)
    assert "rules.yaml:4:" in said
    assert "expected 24 to 64 bytes in base64 on its first line" in said
    assert "hunter2" not in said
    assert "aHVudGVyMg" not in said


def test_a_secret_file_that_is_missing_is_named(tmp_path):
    (tmp_path / "rules.yaml").write_text("web: {webhook: {url: 'http://a', secret_file: absent}}\n")
    with pytest.raises(ConfigError, match="'absent', expected a file that exists"):
        load(tmp_path / "rules.yaml")
