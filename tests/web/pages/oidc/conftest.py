"""A provider that does whatever a test wants, for what real ones do not show; and a desk that trusts it."""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from types import SimpleNamespace
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from gatepost.config.oidc import OidcSettings
from gatepost.config.store import StoreSettings
from gatepost.store import open_store
from gatepost.web.accounts import Accounts
from gatepost.web.desk import Desk

CLIENT, SECRET = "the desk", "s3cret: ü&"
CALLBACK = "http://127.0.0.1:8025/login/oidc/callback"


class FakeProvider:
    """Answers as a good provider does, but for what is in `answers`, by path: octets, or a function."""

    def __init__(self, port, scheme="http"):
        self.issuer = f"{scheme}://127.0.0.1:{port}/realm"
        self.asked, self.answers, self.codes = [], {}, {}
        self.metadata = {
            "issuer": self.issuer,
            **{
                f"{name}_endpoint": f"{self.issuer}/{name}"
                for name in ("authorization", "token", "userinfo", "end_session")
            },
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }
        self.key = self.new_key("one")
        self.published = [self.key]
        self.header = {"alg": "ES256", "kid": "one"}
        self.userinfo = {}
        self.clock = time.time
        self.callback = CALLBACK

    @staticmethod
    def new_key(kid, **options):
        from joserfc.jwk import ECKey  # noqa: PLC0415 - an extra

        return ECKey.generate_key("P-256", {"kid": kid, "use": "sig", **options})

    def count(self, name):
        return sum(path.endswith(name) for path in self.asked)

    def claims(self, sent_nonce, **claims):
        now = int(self.clock())
        return {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "4711",
            "exp": now + 300,
            "iat": now,
            "nonce": sent_nonce,
            "preferred_username": "ann",
            **claims,
        }

    def id_token(self, claims):
        from joserfc import jwt  # noqa: PLC0415 - an extra
        from joserfc.jws import JWSRegistry  # noqa: PLC0415 - an extra

        anything = JWSRegistry(algorithms=[self.header["alg"]], strict_check_header=False)
        left = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(self.header, left, self.key, registry=anything)

    def log_in(self, address, **claims):
        """What a user's browser is led to after the log-in."""
        query = dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["redirect_uri"] == self.callback
        assert query["code_challenge_method"] == "S256"
        assert query["scope"].split()[0] == "openid"
        code = secrets.token_urlsafe(8)
        self.codes[code] = (query["code_challenge"], self.claims(query["nonce"], **claims))
        return {"code": code, "state": query["state"]}

    def _token(self, fields, body):
        form = {name: value for name, (value,) in parse_qs(body.decode()).items()}
        scheme, _, both = fields.get("authorization", " ").partition(" ")
        if scheme == "Basic":
            given = tuple(parse_qs("x=" + one)["x"][0] for one in base64.b64decode(both).decode().split(":"))
        else:
            given = (form.get("client_id"), form.get("client_secret"))
        if given != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        challenge, claims = self.codes.pop(form["code"], (None, None))
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        proved = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (challenge, form["redirect_uri"]) != (proved, self.callback):
            return 400, {"error": "invalid_grant", "error_description": "no such code"}
        return 200, {"token_type": "Bearer", "access_token": "at", "id_token": self.id_token(claims)}

    def _answer(self, path, fields, body):
        match path.removeprefix("/realm"):
            case "/.well-known/openid-configuration":
                return 200, self.metadata
            case "/keys":
                return 200, {"keys": [key.as_dict(private=False) for key in self.published]}
            case "/token":
                return self._token(fields, body)
            case "/userinfo":
                assert fields["authorization"] == "Bearer at"
                return 200, {"sub": "4711", **self.userinfo}
        return 404, {}

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:])}
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            path = head[0].split()[1]
            self.asked.append(path)
            said = self.answers.get(path.removeprefix("/realm"))
            if callable(said):
                said = await said(writer)
            if said is None:
                status, content = self._answer(path, fields, body)
                said = answer(status, json.dumps(content).encode())
            writer.write(said)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def answer(status, body, kind="application/json"):
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """One for all tests of a module: no log-in changes its store."""
    folder, url = tmp_path_factory.mktemp("desk"), StoreSettings(url="sqlite:///gatepost.db")

    async def make_store():
        await open_store(url, folder).close()

    asyncio.run(make_store())
    with Desk.open(url, folder, mode="gateway") as opened:
        yield opened


@pytest.fixture
async def start_provider():
    """Start a provider; with options of the server, such as TLS."""
    pytest.importorskip("joserfc")
    servers = []

    async def start(**options):
        provider = None

        async def serve(reader, writer):
            await provider.serve(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        provider = FakeProvider(port, "https" if options else "http")
        provider.server = server
        return provider

    yield start
    for server in servers:
        server.close()


@pytest.fixture
async def provider(start_provider):
    return await start_provider()


@pytest.fixture
def settings(tmp_path):
    """The settings of a desk that trusts a provider."""

    def make(provider, **options):
        (secret := tmp_path / "secret").write_text(f"{SECRET}\n")
        return OidcSettings.model_validate(
            {
                "issuer": provider.issuer,
                "client_id": CLIENT,
                "client_secret_file": str(secret),
                "redirect_uri": provider.callback,
                "roles": [{"groups": "helpdesk", "role": "operator"}],
                **options,
            }
        )

    return make


@pytest.fixture
def desk_of(client_of, settings, accounts):
    """A desk, and a browser that logs in to it."""

    def make(provider, *, clock=time.time, password="secret", base_path="", **options):
        from gatepost.web.oidc.sign_on import SignOn  # noqa: PLC0415 - an extra

        provider.clock = clock
        sign_on = SignOn(settings(provider, **options), clock=clock)
        known = Accounts(password=password, sign_on=sign_on)
        return SimpleNamespace(
            open=client_of(accounts=known, base_path=base_path), accounts=known, sign_on=sign_on
        )

    return make


CROSS_SITE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.fixture
def log_in():
    """Log in as a browser does; returns the page to which the provider leads back."""

    async def go(http, provider, *, changed=None, target="/journal", **claims):
        begun = await http.get("/login/oidc", params={"next": target})
        if begun.status_code != 303:
            return begun
        claims = {"groups": ["helpdesk"], **claims}
        query = provider.log_in(begun.headers["location"], **claims) | (changed or {})
        query = {name: value for name, value in query.items() if value is not None}
        return await http.get("/login/oidc/callback", params=query, headers=CROSS_SITE)

    return go
