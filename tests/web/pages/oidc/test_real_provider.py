"""The whole log-in in Chromium with a certified provider (oidc-provider): the desk and it are two sites."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.real]
FOLDER = Path(__file__).parent
SECRET = "a secret of the client: +&%"
FITS = "document.documentElement.scrollWidth <= innerWidth"
ROLES = [
    {"groups": "help", "role": "operator"},
    {"groups": "net", "role": "operator", "domains": "example.net"},
    {"groups": "watch", "role": "reader"},
]


@pytest.fixture
def provider(request):
    """Start the provider; ``know`` tells it the desk."""
    if not (shutil.which("node") and (FOLDER.parents[2] / "node_modules" / "oidc-provider").exists()):
        pytest.skip("needs node and oidc-provider (npm install in tests)")
    pytest.importorskip("joserfc")
    process = subprocess.Popen(
        ["node", FOLDER / "provider.mjs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    process.issuer = f"http://localhost:{int(process.stdout.readline())}"

    def know(origin):
        client = {
            "client_id": "desk",
            "client_secret": SECRET,
            "redirect_uris": [f"{origin}/login/oidc/callback"],
            "post_logout_redirect_uris": [f"{origin}/login"],
        }
        process.stdin.write(f"{json.dumps(client)}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"

    process.know = know
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def site(serve, provider, tmp_path):
    """A desk that trusts the provider, with mail for two domains."""
    (tmp_path / "oidc-secret").write_text(SECRET)
    settings = {
        "issuer": provider.issuer,
        "client_id": "desk",
        "client_secret_file": str(tmp_path / "oidc-secret"),
        "redirect_uri": "ORIGIN/login/oidc/callback",
        "post_logout_redirect_uri": "ORIGIN/login",
        "scopes": ["profile", "groups"],
        "roles": ROLES,
        "label": "Example Mail",
    }
    site = serve(oidc=json.dumps(settings), password=True)
    provider.know(site.origin)
    site.keep(subject="For net", to=("bob@example.net",))
    site.keep(subject="For com", to=("bob@example.com",))
    return site


@pytest.fixture
def expect():
    return pytest.importorskip("playwright.sync_api").expect


def sign_in(page, account):
    page.get_by_role("link", name="Log in with Example Mail").click()
    page.get_by_label("Account").fill(account)
    page.get_by_role("button", name="Sign in").click()


def test_people_log_in_with_their_account_have_the_role_of_their_group_and_log_out(
    site, provider, new_page, expect
):
    page = new_page()
    page.goto(f"{site.origin}/?q=For")
    sign_in(page, "ann+net")
    expect(page).to_have_url(f"{site.origin}/?q=For")
    expect(page.locator(".mode", has_text="oidc:ann")).to_contain_text("Operator of example.net")
    expect(page.get_by_text("For net").first).to_be_visible()
    expect(page.get_by_text("For com")).to_have_count(0)
    names = {one["name"]: one for one in page.context.cookies(site.origin)}
    port = site.origin.rpartition(":")[2]
    assert names.keys() == {f"gatepost-{port}"}  # that of the log-in is gone
    assert (names[f"gatepost-{port}"]["sameSite"], names[f"gatepost-{port}"]["httpOnly"]) == ("Strict", True)

    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{provider.issuer}/session/end**")
    page.get_by_role("button", name=re.compile("Yes")).click()
    page.wait_for_url(f"{site.origin}/login**")
    page.goto(site.origin)
    expect(page).to_have_url(re.compile("/login"))

    sign_in(page, "eve+watch+strangers")  # asked again: the session there has ended too
    expect(page.locator(".mode", has_text="oidc:eve")).to_contain_text("Reader")
    expect(page.get_by_text("For com").first).to_be_visible()


def test_who_is_refused_or_cancels_reads_why_and_can_use_the_password(site, new_page, expect):
    page = new_page(390, 844, expected=403, color_scheme="dark")
    page.goto(site.origin)
    assert page.evaluate(FITS)
    page.get_by_role("link", name="Log in with Example Mail").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading")).to_have_text("The log-in server did not let you in")
    page.get_by_role("link", name="Back to the log-in").click()
    sign_in(page, "mallory+strangers")
    expect(page.get_by_role("heading")).to_have_text("You have no role here")
    expect(page.locator("main")).to_contain_text("Your account at Example Mail is mallory")
    assert page.evaluate(FITS)
    page.get_by_role("link", name="Log out of Example Mail").click()  # to take another account
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("link", name="Log in with Example Mail")).to_be_visible()
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("For com").first).to_be_visible()


def test_while_the_provider_is_down_the_password_works(site, provider, new_page, expect):
    provider.kill()
    provider.wait()
    page = new_page(expected=502)
    page.goto(f"{site.origin}/journal")
    page.get_by_role("link", name="Log in with Example Mail").click()
    expect(page.get_by_role("heading")).to_have_text("The log-in server did not work")
    page.get_by_role("link", name="Back to the log-in").click()
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{site.origin}/journal")
