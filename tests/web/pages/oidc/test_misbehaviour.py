"""What a provider, a network or an attacker does wrong lets nobody in; passwords go on working."""

import asyncio
import base64
import hmac
import json
from contextlib import AsyncExitStack

import pytest
from gatepost.web.oidc import provider as provider_module

OWN = {"origin": "http://127.0.0.1:8025"}
DISCOVERY, KEYS, TOKEN, USERINFO = "/.well-known/openid-configuration", "/keys", "/token", "/userinfo"
DOWN, STALE, REFUSED = "The log-in server did not work", "This log-in is over", "did not let you in"


def http(status, body, kind="application/json"):
    octets = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Nope\r\nContent-Type: {kind}\r\nContent-Length: {len(octets)}\r\n\r\n"
    return head.encode() + octets


async def slow(writer):
    await asyncio.sleep(60)


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n{")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def trickling(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


ANSWERS = [
    (DISCOVERY, slow, DOWN, "no answer within 0.3 s"),
    (DISCOVERY, trickling, DOWN, "no answer within 0.3 s"),
    (DISCOVERY, endless, DOWN, "a response of more than 524288 bytes"),
    (DISCOVERY, b"", DOWN, "without a response"),
    (DISCOVERY, b"220 mx ESMTP\r\n\r\n", DOWN, "no HTTP response"),
    (DISCOVERY, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", DOWN, "no HTTP response"),
    (DISCOVERY, http(503, "x"), DOWN, "discovery: 503 Nope of http://127.0.0.1"),
    (DISCOVERY, http(302, "x"), DOWN, "discovery: 302 Nope"),
    (
        DISCOVERY,
        http(200, "<html>", "text/html"),
        DOWN,
        "discovery: the answer is not a JSON object (text/html)",
    ),
    (DISCOVERY, http(200, "[" * 100_000), DOWN, "not a JSON object"),
    (DISCOVERY, http(200, []), DOWN, "not a JSON object"),
    (DISCOVERY, http(200, {"issuer": "x"}), DOWN, "discovery: authorization_endpoint: Field required"),
    (KEYS, http(500, "x"), DOWN, "keys: 500 Nope"),
    (KEYS, http(200, {}), DOWN, "no JWK Set"),
    (
        KEYS,
        http(200, {"keys": [{"kty": "oct", "k": "AAAA"}, {"kty": "new"}, 7]}),
        DOWN,
        "no key for signatures",
    ),
    (
        KEYS,
        http(200, {"keys": [{"kty": "EC", "crv": "P-9", "x": "A", "y": "A"}, {"kty": "RSA"}]}),
        DOWN,
        "no key",
    ),
    (KEYS, http(200, {"keys": [{}] * 101}), DOWN, "no JWK Set of at most 100 keys"),
    (TOKEN, slow, DOWN, "token: http://127.0.0.1"),
    (
        TOKEN,
        http(400, {"error": "invalid_grant", "error_description": "used\n"}),
        STALE,
        r"invalid_grant: used\n",
    ),
    (TOKEN, http(401, {"error": "invalid_client"}), DOWN, "token: 401 Nope, invalid_client"),
    (TOKEN, http(500, "<html>"), DOWN, "token: 500 Nope"),
    (TOKEN, http(200, {"access_token": "x"}), DOWN, "token: id_token: Field required"),
    (TOKEN, http(200, {"access_token": "x", "id_token": "x"}), DOWN, "ID token: "),
    (TOKEN, http(200, {"access_token": "x", "id_token": "\u00e4.b.c"}), DOWN, "ID token: "),
    (USERINFO, http(401, "x"), DOWN, "userinfo: 401 Nope"),
    (USERINFO, http(200, "a.b.c", "application/jwt"), DOWN, "(application/jwt)"),
    (USERINFO, http(200, {"sub": "4712", "groups": ["helpdesk"]}), DOWN, "sub is not that of the ID token"),
    (USERINFO, http(200, {"groups": ["helpdesk"]}), DOWN, "sub is not that of the ID token"),
    (USERINFO, slow, DOWN, "userinfo: http://127.0.0.1"),
]


def impatient(request, path):
    """Requests that wait for this path less long."""

    async def send(url, **options):
        late = {"seconds": 0.3} if url.target.endswith(path) else {}
        return await request(url, **{**options, **late})

    return send


@pytest.mark.parametrize(
    ("path", "said", "title", "reason"), ANSWERS, ids=[f"{path} {reason}" for path, _, _, reason in ANSWERS]
)
async def test_a_wrong_answer_is_one_line_of_the_log_and_a_page_and_lets_nobody_in(
    provider, desk_of, log_in, refused, monkeypatch, path, said, title, reason
):
    provider.answers[path] = said
    if said in (slow, trickling):
        monkeypatch.setattr(provider_module, "request", impatient(provider_module.request, path))
    async with desk_of(provider).open as http:
        page = await log_in(http, provider, groups=None if path == USERINFO else ["helpdesk"])
        await refused(http, page, title, reason)


@pytest.fixture
def refused(caplog):
    """Nobody is logged in, and the logs have one line each; a password lets in meanwhile."""
    caplog.set_level("INFO", "gatepost.audit")

    async def check(http, page, title, reason):
        assert page.status_code in (400, 403, 502, 503)
        assert title in page.text
        lines = [one for one in caplog.messages if "log-in with OpenID Connect failed" in one]
        assert len(lines) == 1
        assert lines[0].startswith("web desk: log-in with OpenID Connect failed client=127.0.0.1: ")
        assert reason in lines[0]
        assert lines[0].isprintable()
        assert caplog.messages.count("audit login failed client=127.0.0.1") == 1
        assert reason not in page.text
        assert "s3cret" not in caplog.text
        assert "gatepost-8025" not in http.cookies
        assert "gatepost-8025-oidc" not in http.cookies
        entered = await http.post("/login", data={"password": "secret"}, headers=OWN)
        assert entered.status_code == 303
        assert (await http.get("/journal")).status_code == 200

    return check


METADATA = [
    ({"issuer": "https://evil.example"}, "calls itself 'https://evil.example', expected 'http://127.0.0.1"),
    ({"authorization_endpoint": "javascript:alert(1)"}, "an endpoint is not a URL"),
    ({"token_endpoint": "file:///etc/passwd"}, "discovery: token_endpoint: "),
    ({"jwks_uri": 7}, "discovery: jwks_uri: "),
    ({"end_session_endpoint": "javascript:alert(1)"}, "an endpoint is not a URL"),
]


@pytest.mark.parametrize(("changed", "reason"), METADATA)
async def test_what_a_provider_says_of_itself_is_checked(provider, desk_of, log_in, refused, changed, reason):
    provider.metadata |= changed
    async with desk_of(provider).open as http:
        await refused(http, await log_in(http, provider), DOWN, reason)


def encoded(part):
    octets = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def unsigned(provider, claims):
    return f"{encoded({'alg': 'none'})}.{encoded(claims)}."


def with_hmac(key, claims):
    text = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{encoded(claims)}"
    return f"{text}.{encoded(hmac.digest(key, text.encode(), 'sha256'))}"


def with_the_secret(provider, claims):
    return with_hmac("s3cret: ü&".encode(), claims)


def with_the_public_key_as_secret(provider, claims):
    return with_hmac(provider.key.as_pem(private=False), claims)


def with_another_key(provider, claims):
    provider.key = provider.new_key("one")
    return provider.id_token(claims)


def with_a_key_of_its_own(provider, claims):
    provider.key = provider.new_key("one")
    provider.header |= {"jwk": provider.key.as_dict(private=False)}
    return provider.id_token(claims)


def changed_afterwards(provider, claims):
    head, _, signature = provider.id_token(claims).split(".")
    return f"{head}.{encoded({**claims, 'sub': 'chief'})}.{signature}"


def with_a_key_for_encryption(provider, claims):
    provider.key = provider.new_key("one", use="enc")
    provider.published = [provider.key]
    from joserfc import jwt  # noqa: PLC0415 - an extra
    from joserfc.jwk import ECKey  # noqa: PLC0415 - an extra

    same = ECKey.import_key({**provider.key.as_dict(private=True), "use": "sig"})
    return jwt.encode(provider.header, claims, same)


def with_a_rule_that_nobody_knows(provider, claims):
    text = f"{encoded({'alg': 'ES256', 'kid': 'one', 'crit': ['x'], 'x': 1})}.{encoded(claims)}"
    return f"{text}.{encoded(b'x' * 64)}"


def nested(provider, claims):
    from joserfc.jws import serialize_compact  # noqa: PLC0415 - an extra

    return serialize_compact(provider.header, b"[" * 50_000, provider.key)


def no_object(provider, claims):
    from joserfc.jws import serialize_compact  # noqa: PLC0415 - an extra

    return serialize_compact(provider.header, b'["sub"]', provider.key)


TOKENS = [
    (unsigned, "'none' is not allowed"),
    (with_the_secret, "'HS256' is not allowed"),
    (with_the_public_key_as_secret, "'HS256' is not allowed"),
    (with_another_key, "none of the provider's keys made the signature"),
    (with_a_key_of_its_own, "none of the provider's keys made the signature"),
    (changed_afterwards, "none of the provider's keys made the signature"),
    (with_a_key_for_encryption, "none of the provider's keys made the signature"),
    (with_a_rule_that_nobody_knows, "ID token: "),
    (nested, "nested too deeply"),
    (no_object, "ID token: "),
    (lambda provider, claims: "x" * 300_000, "ID token: "),
    (lambda provider, claims: "a.b.c.d.e", "ID token: "),
]


@pytest.mark.parametrize(("token", "reason"), TOKENS)
async def test_a_token_that_the_provider_did_not_sign_is_not_believed(
    provider, desk_of, log_in, refused, monkeypatch, token, reason
):
    made = []

    async def send(writer):
        ((_, claims),) = provider.codes.values()
        made.append(token(provider, claims))
        writer.write(http(200, {"access_token": "at", "id_token": made[0]}))

    provider.answers[TOKEN] = send
    async with desk_of(provider).open as client:
        await refused(client, await log_in(client, provider), DOWN, reason)
    assert made


NOW = 1_800_000_000
CLAIMS = [
    ({"iss": "https://evil.example"}, "iss"),
    ({"iss": None}, "iss"),
    ({"aud": "another"}, "aud"),
    ({"aud": ["another"]}, "aud"),
    ({"aud": []}, "aud"),
    ({"aud": None}, "aud"),
    ({"aud": ["the desk", "another"]}, "several audiences without azp"),
    ({"aud": ["the desk", "another"], "azp": "another"}, "azp names another client"),
    ({"azp": "another"}, "azp names another client"),
    ({"azp": 7}, "azp names another client"),
    ({"exp": NOW - 120}, "exp"),
    ({"exp": None}, "exp"),
    ({"exp": "never"}, "exp"),
    ({"iat": NOW + 3600}, "issued in the future"),
    ({"iat": None}, "iat"),
    ({"nbf": NOW + 3600}, "not yet valid"),
    ({"nonce": "another"}, "nonce is that of another log-in"),
    ({"nonce": "\u00e4"}, "nonce is that of another log-in"),
    ({"nonce": None}, "nonce is that of another log-in"),
    ({"sub": None}, "sub"),
    ({"sub": ""}, "sub"),
    ({"sub": 4711}, "sub"),
    ({"sub": "x" * 256}, "sub has not 1 to 255 characters"),
    ({"preferred_username": " "}, "no text in the claim 'preferred_username' (web.oidc.name_claim)"),
    ({"preferred_username": ["ann"]}, "no text in the claim 'preferred_username' (web.oidc.name_claim)"),
    ({"preferred_username": None, "evil\nclaim": 1}, r"the claims are: aud, evil\nclaim, exp"),
]


@pytest.mark.parametrize(("claims", "reason"), CLAIMS)
async def test_a_token_for_another_log_in_client_or_time_is_not_believed(
    provider, desk_of, log_in, refused, claims, reason
):
    async with desk_of(provider, clock=lambda: NOW).open as http:
        await refused(http, await log_in(http, provider, **claims), DOWN, reason)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 10, "iat": NOW + 30, "nbf": NOW + 30},  # clocks differ
        {"aud": ["the desk", "another"], "azp": "the desk"},
        {"aud": ["the desk"]},
    ],
)
async def test_a_token_that_is_right_after_all_is_believed(provider, desk_of, log_in, claims):
    async with desk_of(provider, clock=lambda: NOW).open as http:
        assert (await log_in(http, provider, **claims)).status_code == 200


QUERIES = [
    ({"error": "access_denied", "error_description": "no\n"}, REFUSED, r"says: access_denied: no\n"),
    ({"error": "", "code": None}, REFUSED, "the provider says: "),
    ({"state": "another"}, STALE, "the state is that of another log-in"),
    ({"state": "ä"}, STALE, "the state is that of another log-in"),
    ({"state": None}, STALE, "the state is that of another log-in"),
    ({"code": None}, DOWN, "neither a code nor an error"),
    ({"code": "another"}, STALE, "invalid_grant: no such code"),
    ({"iss": "https://evil.example"}, DOWN, "not from the provider that was asked (iss)"),
]


@pytest.mark.parametrize(("changed", "title", "reason"), QUERIES)
async def test_a_browser_that_comes_back_with_something_else_is_not_let_in(
    provider, desk_of, log_in, refused, changed, title, reason
):
    async with desk_of(provider).open as http:
        await refused(http, await log_in(http, provider, changed=changed), title, reason)


@pytest.mark.parametrize(("told", "status"), [(None, 502), ("right", 200)])
async def test_a_provider_that_promises_to_say_its_name_must(provider, desk_of, log_in, told, status):
    provider.metadata["authorization_response_iss_parameter_supported"] = True
    changed = {"iss": told and provider.issuer}
    async with desk_of(provider).open as http:
        assert (await log_in(http, provider, changed=changed)).status_code == status


async def back(http, provider, begun):
    query = provider.log_in(begun.headers["location"], groups=["helpdesk"])
    return await http.get("/login/oidc/callback", params=query), query


async def test_a_log_in_ends_once_although_the_code_still_were_good(provider, desk_of, refused):
    async with desk_of(provider).open as http:
        page, query = await back(http, provider, await http.get("/login/oidc"))
        assert page.status_code == 200
        http.cookies.delete("gatepost-8025")
        provider.codes[query["code"]] = ("x", {})
        page = await http.get("/login/oidc/callback", params=query)
        await refused(http, page, STALE, "the browser has no cookie of a log-in")
    assert provider.count(TOKEN) == 1


async def test_a_stolen_code_is_of_no_use_in_another_browser(provider, desk_of, refused):
    async with desk_of(provider).open as http:
        begun = await http.get("/login/oidc")
        http.cookies.clear()
        page, _ = await back(http, provider, begun)
        await refused(http, page, STALE, "the browser has no cookie of a log-in")
    assert provider.count(TOKEN) == 0


async def test_an_attackers_code_is_of_no_use_in_a_browser_that_began_a_log_in(provider, desk_of, refused):
    """Else somebody would work in the attacker's account without knowing."""
    async with desk_of(provider).open as http:
        theirs = await http.get("/login/oidc")
        http.cookies.clear()
        await http.get("/login/oidc")
        page, _ = await back(http, provider, theirs)
        await refused(http, page, STALE, "the state is that of another log-in")
    assert provider.count(TOKEN) == 0


@pytest.mark.parametrize(("seconds", "status"), [(599, 200), (601, 400), (-120, 400)])
async def test_a_log_in_must_end_within_ten_minutes(provider, desk_of, seconds, status):
    now = [float(NOW)]
    async with desk_of(provider, clock=lambda: now[0]).open as http:
        begun = await http.get("/login/oidc")
        now[0] += seconds
        query = provider.log_in(begun.headers["location"], groups="helpdesk")
        assert (await http.get("/login/oidc/callback", params=query)).status_code == status


@pytest.mark.parametrize("how", ["garbage", "secret", "client"])
async def test_a_cookie_from_elsewhere_is_refused(provider, desk_of, refused, tmp_path, how):
    client_id = "another" if how == "client" else "the desk"
    async with desk_of(provider, client_id=client_id).open as other, AsyncExitStack() as stack:
        begun = await other.get("/login/oidc")
        cookie = begun.cookies["gatepost-8025-oidc"]
        desk = desk_of(provider)
        http = await stack.enter_async_context(desk.open)
        if how == "secret":
            (tmp_path / "secret").write_text("new")
        http.cookies.set(
            "gatepost-8025-oidc",
            "x" if how == "garbage" else cookie,
            domain="127.0.0.1",
            path="/login/oidc",
        )
        page = await http.get("/login/oidc/callback?code=x&state=x")
        await refused(http, page, STALE, "the cookie of the log-in is too old, or not from here")


async def test_new_keys_of_the_provider_are_asked_for_when_a_token_has_one(provider, desk_of, log_in):
    async with desk_of(provider).open as http:
        for kid, count in [("one", 1), ("one", 1), ("two", 2), ("two", 2)]:
            if provider.header["kid"] != kid:
                provider.key = provider.new_key(kid)
                provider.header["kid"] = kid
                provider.published = [provider.new_key("old"), provider.key]
            assert (await log_in(http, provider)).status_code == 200
            assert provider.count(KEYS) == count
        provider.key = provider.new_key("two")  # under its old name
        provider.published = [provider.key]
        assert (await log_in(http, provider)).status_code == 200
        del provider.header["kid"]
        provider.published = [provider.new_key("a"), provider.key]
        assert (await log_in(http, provider)).status_code == 200
        provider.published = [provider.new_key("b")]
        provider.key = provider.new_key("c")
        assert (await log_in(http, provider)).status_code == 502


async def test_a_key_that_the_provider_has_withdrawn_is_good_for_ten_minutes_at_most(
    provider, desk_of, log_in
):
    now = [float(NOW)]
    async with desk_of(provider, clock=lambda: now[0]).open as http:
        assert (await log_in(http, provider)).status_code == 200
        provider.published = [provider.new_key("two")]
        now[0] += 601
        assert (await log_in(http, provider)).status_code == 502


@pytest.mark.parametrize(
    ("kind", "size", "algorithm"),
    [
        ("RSA", 2048, "RS256"),
        ("RSA", 2048, "PS384"),
        ("EC", "P-384", "ES384"),
        ("EC", "P-521", "ES512"),
        ("OKP", "Ed25519", "EdDSA"),
        ("OKP", "Ed25519", "Ed25519"),
    ],
)
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # by RFC 9864, and in use
async def test_the_usual_kinds_of_keys_are_known(provider, desk_of, log_in, kind, size, algorithm):
    from joserfc.jwk import JWKRegistry  # noqa: PLC0415 - an extra

    provider.key = JWKRegistry.generate_key(kind, size, {"kid": "one"})
    provider.published = [provider.new_key("one", use="enc"), provider.key]
    provider.header = {"alg": algorithm, "kid": "one", "custom": "x"}
    async with desk_of(provider).open as http:
        assert (await log_in(http, provider)).status_code == 200


@pytest.mark.filterwarnings("ignore:Key size")
async def test_a_key_that_can_be_broken_is_not_used(provider, desk_of, log_in, refused):
    from joserfc.jwk import RSAKey  # noqa: PLC0415 - an extra

    provider.key = RSAKey.generate_key(1024, {"kid": "one"})
    provider.published = [provider.new_key("two"), provider.key]
    provider.header = {"alg": "RS256", "kid": "one"}
    async with desk_of(provider).open as http:
        await refused(
            http, await log_in(http, provider), DOWN, "none of the provider's keys made the signature"
        )


async def test_a_provider_that_is_down_is_asked_once_in_a_while_however_many_log_in(
    provider, desk_of, log_in
):
    now = [float(NOW)]
    provider.answers[DISCOVERY] = http(503, "x")
    async with desk_of(provider, clock=lambda: now[0]).open as client:
        pages = await asyncio.gather(*(client.get("/login/oidc") for _ in range(10)))
        assert {page.status_code for page in pages} == {502}
        assert provider.count(DISCOVERY) == 1
        now[0] += 4
        del provider.answers[DISCOVERY]
        assert (await log_in(client, provider)).status_code == 200
        assert (await log_in(client, provider)).status_code == 200
        assert provider.count(DISCOVERY) == 2


async def test_no_more_than_twenty_log_ins_wait_for_the_provider(provider, desk_of, caplog):
    go_on = asyncio.Event()

    async def wait(writer):
        await go_on.wait()

    provider.answers[DISCOVERY] = wait
    async with desk_of(provider).open as client:
        begun = [asyncio.create_task(client.get("/login/oidc")) for _ in range(20)]
        while not provider.asked:
            await asyncio.sleep(0.01)
        page = await client.get("/login/oidc")
        assert (page.status_code, "Too many people log in" in page.text) == (503, True)
        assert "20 log-ins wait for the provider already" in caplog.text
        entered = await client.post("/login", data={"password": "secret"}, headers=OWN)
        assert entered.status_code == 303
        go_on.set()
        await asyncio.gather(*begun)


async def test_a_secret_that_cannot_be_read_any_more_is_told_in_the_log_alone(
    provider, desk_of, refused, tmp_path
):
    async with desk_of(provider).open as http:
        (tmp_path / "secret").unlink()
        await refused(http, await http.get("/login/oidc"), DOWN, "the client's secret: ")


@pytest.mark.parametrize("mode", ["no-cors", "cors", "navigate"])
async def test_another_site_cannot_embed_or_fetch_the_log_in(provider, desk_of, mode):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": "iframe"}
    async with desk_of(provider).open as http:
        for path in ("/login/oidc", "/login/oidc/callback"):
            assert (await http.get(path, headers=headers)).status_code == 403
