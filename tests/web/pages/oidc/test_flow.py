"""Logging in with OpenID Connect: who gets in, as whom, for how long, and how one gets out."""

import re
import ssl

import pytest
import trustme
from gatepost.config.web import WebSettings
from gatepost.model.user import Role, User

OWN = {"origin": "http://127.0.0.1:8025"}


async def test_a_user_of_the_provider_logs_in_and_may_do_what_the_groups_say(
    provider, desk_of, log_in, caplog
):
    caplog.set_level("INFO")
    desk = desk_of(provider)
    async with desk.open as http:
        page = await log_in(http, provider, target="/journal?days=7")
        assert page.status_code == 200  # a redirect would come without the session's cookie
        assert '<meta http-equiv="refresh" content="0; url=/journal?days=7">' in page.text
        assert 'href="/journal?days=7"' in page.text
        (session,) = [one for one in page.headers.get_list("set-cookie") if one.startswith("gatepost-8025=")]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {*session.split("; ")}
        assert (await http.get("/journal")).status_code == 200
        assert (await http.post("/api/v1/messages", headers=OWN)).status_code == 403  # for administrators
    (logged,) = [one for one in caplog.messages if one.startswith("audit login")]
    assert logged == "audit login ok client=127.0.0.1 role=operator user='oidc:ann' objects=['4711']"


ROLES = [
    {"groups": ["chiefs", "root"], "role": "administrator"},
    {"groups": "com", "role": "operator", "domains": "example.com"},
    {"groups": "watch", "role": "reader"},
    {"groups": "net", "role": "operator", "domains": ["example.net", "example.org"]},
]


@pytest.mark.parametrize(
    ("claims", "role", "domains"),
    [
        ({"groups": ["net", "root", "com"]}, "administrator", None),
        ({"groups": ["com"]}, "operator", {"example.com"}),
        ({"groups": ["net", "watch", "com"]}, "operator", {"example.com", "example.net", "example.org"}),
        ({"groups": ["net", "watch"]}, "reader", None),
        ({"groups": "watch"}, "reader", None),
        ({"groups": {"watch": {"id": 7}}}, "reader", None),
        ({"groups": [7, None, ["chiefs"], "watch"]}, "reader", None),
        ({"groups": ["Chiefs", "chief", "chiefs "]}, None, None),
        ({"groups": "chiefs watch"}, None, None),
        ({"groups": []}, None, None),
        ({"groups": 7}, None, None),
        ({"groups": None}, None, None),
    ],
)
async def test_the_groups_say_the_role_and_who_is_in_none_has_none(
    provider, desk_of, log_in, caplog, claims, role, domains
):
    caplog.set_level("INFO")
    desk = desk_of(provider, roles=ROLES)
    async with desk.open as http:
        page = await log_in(http, provider, **claims)
        sessions = desk.open  # the cookie jar tells whether there is one
        assert ("gatepost-8025" in http.cookies) == (role is not None), sessions
        if role is None:
            assert page.status_code == 403
            assert "You have no role here" in page.text
            assert "audit login refused client=127.0.0.1 user='oidc:ann' objects=['4711']" in caplog.messages
            assert (await http.get("/")).status_code == 303
        else:
            shown = "user='oidc:ann' objects=['4711']"
            assert f"audit login ok client=127.0.0.1 role={role} {shown}" in caplog.messages
            found = await user_of(http)
            assert found == User(name="oidc:ann", role=Role(role), domains=domains and frozenset(domains))


def guard_of(http):
    app = http._transport.app
    return next(one.kwargs["guard"] for one in app.user_middleware if "guard" in one.kwargs)


async def user_of(http):
    return await guard_of(http).user_of_session(http.cookies["gatepost-8025"])


@pytest.mark.parametrize(
    ("options", "claims", "userinfo", "name"),
    [
        ({}, {}, {"preferred_username": "eve", "groups": ["watch"]}, "ann"),  # the ID token is signed
        ({}, {"groups": None}, {"groups": ["helpdesk"]}, "ann"),
        (
            {},
            {"groups": None, "preferred_username": None},
            {"groups": "helpdesk", "preferred_username": "b"},
            "b",
        ),
        ({"name_claim": "email"}, {"email": "ann@example.com"}, {}, "ann@example.com"),
        ({"groups_claim": "realm_access.roles"}, {"realm_access": {"roles": ["helpdesk"]}}, {}, "ann"),
        ({"groups_claim": "https://x.example/g"}, {"https://x.example/g": ["helpdesk"]}, {}, "ann"),
        ({"name_claim": "sub"}, {}, {}, "4711"),
        ({}, {"preferred_username": " a\x1b[1m\u202eb\n "}, {}, "a\ufffd[1m\ufffdb"),
        ({}, {"preferred_username": "n" * 100}, {}, "n" * 64),
    ],
)
async def test_name_and_groups_are_claims_of_the_settings(
    provider, desk_of, log_in, options, claims, userinfo, name
):
    provider.userinfo = userinfo
    desk = desk_of(provider, **options)
    async with desk.open as http:
        assert (await log_in(http, provider, **claims)).status_code == 200
        assert (await user_of(http)).name == f"oidc:{name}"


@pytest.mark.parametrize(
    ("claims", "userinfo", "status"),
    [
        ({"email": "ann@example.com", "email_verified": True}, {}, 200),
        ({"email": "ann@example.com"}, {"email_verified": True}, 200),
        ({}, {"email": "ann@example.com", "email_verified": True}, 200),
        ({"email": "ann@example.com", "email_verified": False}, {"email_verified": True}, 403),
        ({"email": "ann@example.com", "email_verified": "true"}, {}, 403),
        ({"email": "ann@example.com"}, {}, 403),
    ],
)
async def test_an_address_is_a_group_only_if_the_provider_has_verified_it(
    provider, desk_of, log_in, claims, userinfo, status
):
    """Many providers let users write any address."""
    provider.userinfo = userinfo
    roles = [{"groups": "ann@example.com", "role": "reader"}]
    async with desk_of(provider, groups_claim="email", roles=roles).open as http:
        assert (await log_in(http, provider, **claims)).status_code == status


async def test_a_session_ends_after_its_time_although_it_is_used(provider, desk_of, log_in):
    desk = desk_of(provider, session_time="1h")
    async with desk.open as http:
        guard, clock = guard_of(http), [0.0]
        guard.sessions._clock = lambda: clock[0]
        await log_in(http, provider)
        for clock[0] in (1800.0, 3599.0):
            assert (await http.get("/journal")).status_code == 200
        clock[0] = 3600.0
        assert (await http.get("/journal")).status_code == 303


async def test_a_reload_takes_a_role_away_and_gives_another_one(provider, desk_of, log_in, settings):
    desk = desk_of(provider)
    async with desk.open as http:
        await log_in(http, provider)
        for roles, expected in [
            ([{"groups": "helpdesk", "role": "reader"}], Role.READER),
            ([{"groups": "others", "role": "reader"}], None),
        ]:
            desk.accounts.renew(WebSettings(oidc=settings(provider, roles=roles)))
            found = await user_of(http)
            assert (found and found.role) == expected
        desk.accounts.renew(WebSettings())
        assert await user_of(http) is None
        assert (await http.get("/login/oidc")).status_code == 404
        assert not desk.accounts.are_open


async def test_a_desk_with_a_provider_alone_is_not_open_and_asks_for_no_password(provider, desk_of, log_in):
    desk = desk_of(provider, password=None, label="Example & Co")
    async with desk.open as http:
        assert (await http.get("/journal")).headers["location"] == "/login?next=%2Fjournal"
        page = await http.get("/login?next=%2Fjournal%3Fdays%3D7")
        assert 'type="password"' not in page.text
        (begin,) = re.findall(r'href="(/login/oidc[^"]*)"[^>]*>Log in with Example &amp; Co<', page.text)
        assert begin == "/login/oidc?next=%2Fjournal%3Fdays%3D7"
        assert (await http.post("/login", data={"password": ""}, headers=OWN)).status_code == 403
        assert (await log_in(http, provider)).status_code == 200


async def test_nobody_gets_the_name_of_a_providers_user_with_the_password(provider, desk_of):
    async with desk_of(provider).open as http:
        for name, status in [("oidc:ann", 403), ("ann", 303)]:
            data = {"name": name, "password": "secret"}
            assert (await http.post("/login", data=data, headers=OWN)).status_code == status


async def test_the_desk_that_ends_a_log_in_need_not_be_the_one_that_began_it(provider, desk_of):
    """As behind a load balancer: the state is in the browser, and only desks with the secret can read it."""
    async with desk_of(provider).open as one, desk_of(provider).open as other:
        begun = await one.get("/login/oidc")
        other.cookies = one.cookies
        page = await other.get(
            "/login/oidc/callback", params=provider.log_in(begun.headers["location"], groups="helpdesk")
        )
        assert page.status_code == 200
        assert (await other.get("/journal")).status_code == 200


async def test_the_cookie_of_a_log_in_tells_nothing_and_is_sent_to_the_log_in_only(provider, desk_of):
    async with desk_of(provider).open as http:
        begun = await http.get("/login/oidc?next=/secret-page")
        cookie = begun.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/login/oidc", "Max-Age=600"} <= {*cookie.split("; ")}
    state = re.search(r"state=([^&]+)", begun.headers["location"])[1]
    assert state not in cookie
    assert "secret-page" not in cookie


async def test_a_desk_under_a_path_leads_there_and_keeps_its_cookies_there(provider, desk_of):
    provider.callback = "http://127.0.0.1:8025/mail/login/oidc/callback"
    async with desk_of(provider, base_path="/mail").open as http:
        asked = await http.get("/mail/journal")
        assert asked.headers["location"] == "/mail/login?next=%2Fjournal"
        page = await http.get(asked.headers["location"])
        (link,) = re.findall(r'href="(/mail/login/oidc[^"]*)"', page.text)
        begun = await http.get(link)
        assert "Path=/mail/login/oidc" in begun.headers["set-cookie"].split("; ")
        query = provider.log_in(begun.headers["location"], groups="helpdesk")
        page = await http.get("/mail/login/oidc/callback", params=query)
        assert 'content="0; url=/mail/journal"' in page.text
        assert 'href="/mail/journal"' in page.text
        assert (await http.get("/mail/journal")).status_code == 200
        moved = await http.get("/mail/login/oidc?next=/journal", headers={"host": "localhost"})
        led_to = "http://127.0.0.1:8025/mail/login/oidc?next=%2Fjournal&moved"
        assert moved.headers["location"] == led_to
        page = await http.post("/mail/logout", headers=OWN)
        assert f'content="0; url={provider.issuer}/end_session?' in page.text
        assert (await http.get("/mail/journal")).status_code == 303


async def test_a_log_in_begins_under_the_name_to_which_the_provider_leads_back(provider, desk_of):
    """The cookie would else stay at the other name."""
    async with desk_of(provider).open as http:
        there = {"host": "localhost:8025"}
        moved = await http.get("/login/oidc?next=/journal%3Fq", headers=there)
        led_to = "http://127.0.0.1:8025/login/oidc?next=%2Fjournal%3Fq&moved"
        assert (moved.status_code, moved.headers["location"]) == (303, led_to)
        assert "set-cookie" not in moved.headers
        again = await http.get(led_to, headers=there)  # a proxy has changed the name
        assert again.headers["location"].startswith(provider.issuer)


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "x", ""])
async def test_the_log_in_leads_to_pages_of_the_desk_only(provider, desk_of, log_in, target):
    async with desk_of(provider).open as http:
        page = await log_in(http, provider, target=target)
        assert 'content="0; url=/"' in page.text


@pytest.mark.parametrize(
    "methods", [["client_secret_basic"], ["client_secret_post"], ["private_key_jwt"], None]
)
async def test_the_secret_is_sent_as_the_provider_takes_it(provider, desk_of, log_in, methods):
    if methods is None:
        del provider.metadata["token_endpoint_auth_methods_supported"]  # the default is basic
    else:
        provider.metadata["token_endpoint_auth_methods_supported"] = methods
    async with desk_of(provider).open as http:
        assert (await log_in(http, provider)).status_code == 200


async def test_the_log_out_ends_the_session_and_leads_to_that_of_the_provider(provider, desk_of, log_in):
    after = "http://127.0.0.1:8025/login"
    async with desk_of(provider, post_logout_redirect_uri=after).open as http:
        await log_in(http, provider)
        page = await http.post("/logout", headers=OWN)
        assert page.status_code == 200  # form-action 'self' lets no redirect of a form lead elsewhere
        (address,) = re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', page.text)
        where, _, query = address.replace("&amp;", "&").partition("?")
        assert where == f"{provider.issuer}/end_session"
        names = dict(one.split("=", 1) for one in query.split("&"))
        assert names.keys() == {"client_id", "id_token_hint", "post_logout_redirect_uri"}
        assert names["post_logout_redirect_uri"] == "http%3A%2F%2F127.0.0.1%3A8025%2Flogin"
        assert (await http.get("/journal")).status_code == 303


@pytest.mark.parametrize("why", ["none", "down", "password"])
async def test_the_log_out_ends_the_session_although_the_provider_has_none_for_it(
    provider, desk_of, log_in, why, caplog
):
    if why == "none":
        del provider.metadata["end_session_endpoint"]
    now = [1_800_000_000.0]
    desk = desk_of(provider, clock=lambda: now[0])
    async with desk.open as http:
        if why == "password":
            await http.post("/login", data={"password": "secret"}, headers=OWN)
        else:
            await log_in(http, provider)
        assert (await http.get("/journal")).status_code == 200
        if why == "down":
            now[0] += 3600
            provider.server.close()
        page = await http.post("/logout", headers=OWN)
        assert (page.status_code, page.headers["location"]) == (303, "/login")
        assert (await http.get("/journal")).status_code == 303
    assert ("no log-out at the OpenID Connect provider" in caplog.text) == (why == "down")


@pytest.mark.parametrize("name", ["authorization", "token", "userinfo", "end_session", "jwks_uri"])
async def test_a_provider_with_https_may_not_lead_to_http(
    start_provider, desk_of, log_in, tmp_path, name, caplog
):
    ours, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    provider = await start_provider(ssl=context)
    provider.metadata[name if name == "jwks_uri" else f"{name}_endpoint"] = "http://127.0.0.1/x"
    async with desk_of(provider, ca=str(tmp_path / "ca.pem")).open as http:
        assert (await log_in(http, provider)).status_code == 502
    assert "discovery: an endpoint without https" in caplog.text


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_provider_with_an_authority_of_its_own(
    start_provider, desk_of, log_in, tmp_path, trusted, caplog
):
    ours, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    provider = await start_provider(ssl=context)
    (ours if trusted else other).cert_pem.write_to_path(tmp_path / "ca.pem")
    desk = desk_of(provider, ca=str(tmp_path / "ca.pem"))
    async with desk.open as http:
        page = await log_in(http, provider)
        assert page.status_code == (200 if trusted else 502)
        assert ("its certificate is not trusted" in caplog.text) != trusted
        ours.cert_pem.write_to_path(tmp_path / "ca.pem")
        desk.accounts.renew(WebSettings(oidc=desk.sign_on.settings))  # a reload reads the file again
        assert (await log_in(http, provider)).status_code == 200
