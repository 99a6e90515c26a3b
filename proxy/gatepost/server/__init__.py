"""RECEIVE: an SMTP session -> a transaction; a reply -> the wire.

listener       sockets, start and stop
session        one connection: greeting, EHLO, STARTTLS, AUTH, QUIT
transaction    MAIL, RCPT, DATA, BDAT, RSET
paths          the arguments of MAIL and RCPT; odd_paths those that a tolerant server takes too
data           the octets of a message: end, transparency, bounds
connection     octets in and out, deadlines, TLS
auth           AUTH mechanisms and the file of users; any_auth where every user is right
proxy_header   the PROXY protocol
endpoint       what the sessions of a listener share
contract       what the server asks of the gateway
replies        what the server itself answers
visible        octets of a command as text
"""

from gatepost.server.auth import hash_password
from gatepost.server.contract import Gateway, Reception, Tap
from gatepost.server.endpoint import check_listeners
from gatepost.server.listener import Server

__all__ = ["Gateway", "Reception", "Server", "Tap", "check_listeners", "hash_password"]
