"""Logging in with OpenID Connect: the authorization code flow of OpenID Connect Core 1.0, with PKCE.

What needs libraries of the extra ``oidc`` is imported from `gatepost.web.oidc.sign_on`.
"""

from gatepost.web.oidc.failure import LoginError, Why
from gatepost.web.oidc.identity import USERS_PREFIX, Finished, Identity

__all__ = ["USERS_PREFIX", "Finished", "Identity", "LoginError", "Why"]
