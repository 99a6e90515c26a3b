"""RECEIVE: an SMTP session -> a transaction; a reply -> the wire.

listener       sockets, start and stop
session        one connection: greeting, EHLO, STARTTLS, AUTH, QUIT
transaction    MAIL, RCPT, DATA, BDAT, RSET
paths          the arguments of MAIL and RCPT
data           the octets of a message: end, transparency, bounds
connection     octets in and out, deadlines, TLS
auth           AUTH mechanisms and the file of users
proxy_header   the PROXY protocol
endpoint       what the sessions of a listener share
contract       what the server asks of the gateway
replies        what the server itself answers
"""

from proxy.server.auth import hash_password
from proxy.server.contract import Gateway, Reception, Tap
from proxy.server.endpoint import check_listeners
from proxy.server.listener import Server

__all__ = ["Gateway", "Reception", "Server", "Tap", "check_listeners", "hash_password"]
