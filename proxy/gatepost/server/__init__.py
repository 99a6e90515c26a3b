"""The SMTP server: sessions become transactions, and replies go to the wire.

It asks the gateway at each command (`contract`) and knows nothing of rules, routes or the store.
"""

from gatepost.server.auth import Users, hash_password
from gatepost.server.contract import Gateway, SessionHandler
from gatepost.server.desk_users import desk_hashes
from gatepost.server.endpoint import tls_context
from gatepost.server.listener import Server
from gatepost.server.named_files import check_named_files

__all__ = [
    "Gateway",
    "Server",
    "SessionHandler",
    "Users",
    "check_named_files",
    "desk_hashes",
    "hash_password",
    "tls_context",
]
