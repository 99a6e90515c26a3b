"""The section `web.oidc`: what is accepted, and what is said of mistakes."""

import pytest
from gatepost.cli import app
from gatepost.config import oidc
from gatepost.model.user import Role
from typer.testing import CliRunner

LINES = {
    "issuer": "https://sso.example.com/realms/mail",
    "client_id": "gatepost",
    "client_secret_file": "secret.txt",
    "redirect_uri": "https://desk.example.com/login/oidc/callback",
    "roles": "[{groups: helpdesk, role: operator}]",
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(oidc, "find_spec", lambda name: name)
    (tmp_path / "secret.txt").write_text("s3cret\n")
    (tmp_path / "secret.txt").chmod(0o600)
    (tmp_path / "empty.txt").write_text(" \nx")


def written(web="", **changed):
    """rules.yaml; None leaves a key out."""
    lines = [f"    {key}: {value}\n" for key, value in {**LINES, **changed}.items() if value is not None]
    return f"web:\n{web}  oidc:\n{''.join(lines)}"


def test_a_section_with_what_is_required(loaded, tmp_path):
    web = loaded(written("  address: 0.0.0.0:8025\n  hosts: mail.example.com\n")).config.web
    found = web.oidc
    assert (found.issuer, found.client_id) == ("https://sso.example.com/realms/mail", "gatepost")
    assert found.client_secret == "s3cret"
    assert found.shown == "sso.example.com"
    assert found.is_https
    assert [(one.groups, one.role, one.domains) for one in found.roles] == [
        (("helpdesk",), Role.OPERATOR, None)
    ]
    assert web.host_names == ("mail.example.com", "desk.example.com")


def test_the_desk_under_a_base_path(problems):
    web = "  base_path: /mail/\n"
    assert problems(written(web, redirect_uri="https://d.example/mail/login/oidc/callback")) == []
    (problem,) = problems(written(web))
    assert problem.startswith("rules.yaml:2:3: the path of oidc: redirect_uri is '/login/oidc/callback'")
    assert problem.endswith("expected a URL that ends with /mail/login/oidc/callback")


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8080/x", "http://[::1]/", "http://localhost:3000"])
def test_on_loopback_the_issuer_may_use_http(problems, issuer):
    assert problems(written(issuer=issuer)) == []


@pytest.mark.parametrize(
    ("changed", "place", "says"),
    [
        *(({key: None}, "3:5", f"the key {key!r} is missing under oidc") for key in LINES),
        ({"issuer": "http://sso.example.com"}, "3:13", "expected an issuer with https"),
        ({"issuer": "https://sso.example.com?x=1"}, "3:13", "expected an issuer without query and user"),
        ({"issuer": "https://ann:pw@sso.example.com"}, "3:13", "expected an issuer without query and user"),
        ({"issuer": "sso.example.com"}, "3:13", "like https://sso.example.com/realms/mail"),
        ({"issuer": "[]"}, "3:13", "this is not a URL"),
        ({"client_id": "''"}, "4:16", "expected text of 1 or more characters"),
        ({"client_secret_file": "nothing.txt"}, "5:25", "expected a file that exists and can be read"),
        ({"client_secret_file": "empty.txt"}, "5:25", "expected the client's secret on its first line"),
        ({"redirect_uri": "https://d.example/callback"}, "2:3", "ends with /login/oidc/callback"),
        (
            {"redirect_uri": "https://d.example/login/oidc/callback?x"},
            "2:3",
            "ends with /login/oidc/callback",
        ),
        ({"redirect_uri": "https://d.example/login/oidc/callback#x"}, "6:19", "the URL has a fragment"),
        ({"redirect_uri": "/login/oidc/callback"}, "6:19", "expected an http or https URL like https://desk"),
        ({"roles": "[]"}, "7:12", "an empty list, expected at least one entry"),
        ({"roles": "[{groups: [], role: reader}]"}, "7:22", "expected at least one entry"),
        ({"roles": "[{groups: 7, role: reader}]"}, "7:22", "expected text (write it in quotes)"),
        ({"roles": "[{groups: a, role: king}]"}, "7:31", "'king', expected 'reader', 'operator'"),
        (
            {"roles": "[{groups: a, role: reader, domains: a@b}]"},
            "7:48",
            "expected a domain like example.com",
        ),
        ({"roles": "[{group: a, role: reader}]"}, "7:14", "unknown key 'group' (did you mean 'groups'?)"),
        ({"scopes": "'a b'"}, "8:13", "expected text that matches"),
        ({"ca": "secret.txt"}, "8:9", "expected a PEM file of certificates"),
        ({"session_time": "0s"}, "8:19", "expected a time like 10s"),
        ({"post_logout_redirect_uri": "desk"}, "8:31", "expected an http or https URL"),
        ({"label": "''"}, "8:12", "expected text of 1 or more characters"),
        ({"audience": "x"}, "8:5", "unknown key 'audience'"),
    ],
)
def test_a_mistake_is_told_with_its_place(problems, changed, place, says):
    found = problems(written(**changed))
    assert any(one.startswith(f"rules.yaml:{place}: ") and says in one for one in found), found
    assert len(found) == (2 if "group:" in str(changed) else 1), found  # and a key is missing


def test_the_missing_library_is_named(problems, monkeypatch):
    monkeypatch.setattr(oidc, "find_spec", lambda name: None)
    (problem,) = problems(written())
    assert problem == "rules.yaml:3:5: joserfc is not installed, expected: pip install 'gatepost[oidc]'"


def test_the_check_names_the_provider(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(written())
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0
    assert "single sign-on by https://sso.example.com/realms/mail, web desk with" in done.stdout
    assert done.stderr == ""
