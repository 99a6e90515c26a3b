"""The section `web.oidc`: an OpenID Connect provider whose users may log in to the web desk."""

from importlib.util import find_spec
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from gatepost.config.desk_user import Domains
from gatepost.config.fields import File, check_authorities, first_line, is_loopback, one_or_many
from gatepost.config.http_url import http_url
from gatepost.config.patterns import expected
from gatepost.config.section import Settings
from gatepost.model.user import Role
from gatepost.units import Seconds

__all__ = ["CALLBACK", "OidcRole", "OidcSettings"]

CALLBACK: Final = "/login/oidc/callback"
"""The path to which the provider sends the browser back; the base path comes before it."""
_ISSUER: Final = "https://sso.example.com/realms/mail"
_REDIRECT_URI: Final = f"https://desk.example.com{CALLBACK}"

Text = Annotated[str, Field(min_length=1, max_length=255)]
Scope = Annotated[str, Field(pattern=r"^[!#-\[\]-~]+$")]
"""RFC 6749 section 3.3."""


def _issuer(value: Any) -> str:
    """The issuer, exactly as the provider names itself; only on loopback it may use plain HTTP."""
    url = http_url(value, example=_ISSUER)
    if "?" in value or url.user is not None:
        raise expected(f"an issuer without query and user, like {_ISSUER}")
    if not url.tls and not is_loopback(url.host):
        raise expected(f"an issuer with https, like {_ISSUER}; http only on loopback")
    return str(value)


def _own_uri(value: Any) -> str:
    url = http_url(value, example=_REDIRECT_URI)
    if url.user is not None:
        raise expected(f"a URL without a user, like {_REDIRECT_URI}")
    return str(value)


class OidcRole(Settings):
    """What the members of some groups may do."""

    groups: Annotated[tuple[Text, ...], BeforeValidator(one_or_many)]
    """Values of the claim `OidcSettings.groups_claim`; one of them is enough."""
    role: Role
    domains: Domains | None = None
    """Only mail to recipients in these domains; default: all mail."""


class OidcSettings(Settings):
    """The provider, this desk as its client, and who may do what."""

    issuer: Annotated[str, BeforeValidator(_issuer)]
    """The provider's issuer identifier (OpenID Connect Discovery 1.0 section 3)."""
    client_id: Text
    """The name of this desk at the provider."""
    client_secret_file: File
    """A file whose first line is the client's secret."""
    redirect_uri: Annotated[str, BeforeValidator(_own_uri)]
    """The desk's own address for browsers, with `CALLBACK`, as registered at the provider."""
    roles: Annotated[tuple[OidcRole, ...], BeforeValidator(one_or_many)]
    """Who may do what; who is in none of these groups may do nothing."""
    scopes: Annotated[tuple[Scope, ...], BeforeValidator(one_or_many)] = ("profile", "email")
    """Asked for beside ``openid``."""
    name_claim: Text = "preferred_username"
    """The claim with the user's name."""
    groups_claim: Text = "groups"
    """The claim with the user's groups; of a claim within another one ``outer.inner``."""
    label: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """What the log-in page calls the provider; default: its host."""
    ca: Annotated[File, AfterValidator(check_authorities)] | None = None
    """A PEM file of authorities to trust instead of the system's."""
    session_time: Seconds = 12 * 3600.0
    """Time after which a user must log in again, also one who works."""
    post_logout_redirect_uri: Annotated[str, BeforeValidator(_own_uri)] | None = None
    """Where the provider sends the browser after the log-out; default: it shows a page of its own."""

    @field_validator("client_secret_file")
    @classmethod
    def _has_a_secret(cls, value: Any) -> Any:
        if not first_line(value).strip():
            raise ValueError(f"no secret in {value}, expected the client's secret on its first line")
        return value

    @model_validator(mode="after")
    def _is_installed(self, info: ValidationInfo) -> Self:
        if info.context and find_spec("joserfc") is None:
            raise ValueError("joserfc is not installed, expected: pip install 'gatepost[oidc]'")
        return self

    @property
    def client_secret(self) -> str:
        """The current secret; raises OSError and ValueError."""
        if secret := first_line(self.client_secret_file).strip():
            return secret
        raise ValueError(f"no secret in {self.client_secret_file}")

    @property
    def host(self) -> str:
        """The host name of the desk in `redirect_uri`."""
        return str(urlsplit(self.redirect_uri).hostname)

    @property
    def authority(self) -> str:
        """Host and port of the desk in `redirect_uri`, as browsers write them into the Host field."""
        return http_url(self.redirect_uri).authority.lower()

    @property
    def is_https(self) -> bool:
        """True if browsers use HTTPS with the desk, as `redirect_uri` says."""
        return self.redirect_uri.startswith("https:")

    @property
    def shown(self) -> str:
        """What the log-in page calls the provider."""
        return self.label or str(urlsplit(self.issuer).hostname)

    def callback_problem(self, base_path: str) -> str:
        """Why the desk would not see the browser again; empty: it would."""
        path, wanted = urlsplit(self.redirect_uri).path, f"{base_path}{CALLBACK}"
        if path == wanted and "?" not in self.redirect_uri:
            return ""
        return f"the path of oidc: redirect_uri is {path!r}, expected a URL that ends with {wanted}"
