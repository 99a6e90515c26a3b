"""Single sign-on where a load balancer leads each request to another node."""

import psycopg
import pytest
from gatepost.web.accounts import Accounts

CROSS_SITE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
COOKIE = "gatepost-8025"


@pytest.fixture
def sign_on_of(settings):
    def make(provider, **options):
        from gatepost.web.oidc.sign_on import SignOn  # noqa: PLC0415 - an extra

        return SignOn(settings(provider, **options))

    return make


async def test_a_log_in_is_begun_at_one_finished_at_another_used_at_a_third_and_ended_there(
    provider, node_of, sign_on_of, shared_store
):
    begins, ends, third = [
        await node_of(Accounts(sign_on=sign_on_of(provider, session_time="1h"))) for _ in range(3)
    ]
    begun = await begins.http.get("/login/oidc", params={"next": "/journal"})
    ends.http.cookies = begins.http.cookies
    query = provider.log_in(begun.headers["location"], groups=["helpdesk"])
    page = await ends.http.get("/login/oidc/callback", params=query, headers=CROSS_SITE)
    assert page.status_code == 200
    third.http.cookies = ends.http.cookies
    assert "<strong>oidc:ann</strong>" in (await third.http.get("/journal")).text
    with psycopg.connect(shared_store.url, autocommit=True) as connection:
        connection.execute("UPDATE desk_sessions SET ends_at = ends_at - interval '59 minutes'")
        assert (await third.http.get("/journal")).status_code == 200
        connection.execute("UPDATE desk_sessions SET ends_at = ends_at - interval '1 minute'")
        assert (await third.http.get("/journal")).status_code == 303, "a use does not make it longer"
        connection.execute("UPDATE desk_sessions SET ends_at = ends_at + interval '1 hour'")
    token = third.http.cookies[COOKIE]
    left = await third.http.post("/logout", headers={"origin": "http://127.0.0.1:8025"})
    assert "id_token_hint=" in left.text, "the token is known at the node that ends the session"
    ends.http.cookies.set(COOKIE, token)
    assert (await ends.http.get("/journal")).status_code == 303


async def test_without_a_role_at_a_node_the_session_is_none_there(provider, node_of, sign_on_of, log_in):
    one, other = [await node_of(Accounts(sign_on=sign_on_of(provider))) for _ in range(2)]
    await log_in(one.http, provider)
    other.http.cookies = one.http.cookies
    assert (await other.http.get("/journal")).status_code == 200
    other.accounts.sign_on = sign_on_of(provider, roles=[{"groups": "others", "role": "reader"}])
    assert (await other.http.get("/journal")).status_code == 303
    assert (await one.http.get("/journal")).status_code == 200
