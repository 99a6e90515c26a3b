"""Every reply that Gatepost makes itself, grouped by the stage at which it is sent.

Replies of upstream servers and those that a rule writes are not here. The codes are those of RFC 5321 section
4.2, the enhanced codes those of RFC 3463; where another standard asks for a reply, it is named.
"""

from typing import Final

from gatepost.model.verdict import Reply, ReplyTiming

# At any time ----------------------------------------------------------------------------------------------

TEMPORARY_FAILURE: Final = Reply.parse("451 4.3.0 Temporary failure, try again later")
"""The reply to any failure of Gatepost itself."""
SESSION_FAILED: Final = Reply.parse("421 4.3.0 Temporary failure, closing the connection")
SHUTTING_DOWN: Final = Reply.parse("421 4.3.2 Shutting down, try again later")
TIMED_OUT: Final = Reply.parse("421 4.4.2 Timeout, closing the connection")
TOO_MANY_ERRORS: Final = Reply.parse("421 4.7.0 Too many errors, closing the connection")
NOT_SMTP: Final = Reply.parse("421 4.7.0 This is an SMTP server, closing the connection")
COMMAND_TOO_LONG: Final = Reply.parse("500 5.5.2 Command line too long")
BAD_COMMAND_LINE: Final = Reply.parse("500 5.5.2 A command is printable characters, then CR LF")
UNKNOWN_COMMAND: Final = Reply.parse("500 5.5.1 Command not recognized")
BAD_ARGUMENT: Final = Reply.parse("501 5.5.4 Syntax error in the argument")
NO_ARGUMENT_ALLOWED: Final = Reply.parse("501 5.5.4 This command takes no argument")
NOT_IMPLEMENTED: Final = Reply.parse("502 5.5.1 Command not implemented")
NOT_IN_TRANSACTION: Final = Reply.parse("503 5.5.1 Not allowed during a mail transaction")
NOT_OFFERED: Final = Reply.parse("503 5.5.1 Not offered in this session")
OK: Final = Reply.parse("250 2.0.0 OK")
NOOP_OK: Final = Reply.parse("250 2.0.0 OK, nothing done")
HELP: Final = Reply.parse("214 2.0.0 See RFC 5321, https://www.rfc-editor.org/rfc/rfc5321")
VERIFY_LATER: Final = Reply.parse("252 2.1.5 Send mail to it and the reply to RCPT will tell")
"""To VRFY (RFC 5321 section 3.5.3)."""
BYE: Final = Reply.parse("221 2.0.0 Bye")

# The connection, EHLO and STARTTLS (RFC 3207) -------------------------------------------------------------

TOO_MANY_CONNECTIONS: Final = Reply.parse("421 4.7.0 Too many connections, try again later")
CONNECTIONS_UNKNOWN: Final = Reply.parse("421 4.3.0 Connections cannot be counted now, try again later")
"""The server that counts those of all nodes does not answer."""
EARLY_TALKER: Final = Reply.parse("421 4.7.0 You must wait for the greeting")
HELO_NEEDS_NAME: Final = Reply.parse("501 5.5.4 A domain name or address literal is expected")
HELO_FIRST: Final = Reply.parse("503 5.5.1 Send EHLO or HELO first")
NOT_TRUSTED: Final = Reply.parse("550 5.7.0 Not allowed from this client")
"""To XCLIENT and XFORWARD."""
BAD_ATTRIBUTE: Final = Reply.parse("501 5.5.4 Syntax: NAME=value of the offered names, values in xtext")
"""To XCLIENT and XFORWARD."""
READY_FOR_TLS: Final = Reply.parse("220 2.0.0 Ready to start TLS")
TLS_REQUIRED: Final = Reply.parse("530 5.7.0 Issue STARTTLS first")

# AUTH (RFC 4954 sections 4 and 6) -------------------------------------------------------------------------

AUTHENTICATED: Final = Reply.parse("235 2.7.0 Authentication successful")
TOO_MANY_TRIES: Final = Reply.parse("421 4.7.0 Too many failed authentications, closing the connection")
RESPONSE_TOO_LONG: Final = Reply.parse("500 5.5.6 Response too long")
BAD_BASE64: Final = Reply.parse("501 5.5.2 Cannot decode the response")
AUTH_CANCELLED: Final = Reply.parse("501 5.7.0 Authentication cancelled")
ALREADY_AUTHENTICATED: Final = Reply.parse("503 5.5.1 Already authenticated")
UNKNOWN_MECHANISM: Final = Reply.parse("504 5.5.4 Authentication mechanism not supported")
AUTH_REQUIRED: Final = Reply.parse("530 5.7.0 Authentication required")
BAD_CREDENTIALS: Final = Reply.parse("535 5.7.8 Authentication credentials invalid")
AUTH_NEEDS_TLS: Final = Reply.parse("538 5.7.11 Encryption required for authentication")

# MAIL -----------------------------------------------------------------------------------------------------

CLIENT_UNCLEAR: Final = Reply.parse("451 4.3.0 The client is unknown: a command that may name it failed")
"""After an XFORWARD or XCLIENT that could not be read."""
CLIENT_TOO_BUSY: Final = Reply.parse("451 4.7.0 Too many connections from this client, try again later")
SENDER_OK: Final = Reply.parse("250 2.1.0 Sender ok")
OUT_OF_MEMORY: Final = Reply.parse("452 4.3.1 Not enough memory now, try again later")
BAD_MAIL: Final = Reply.parse("501 5.5.4 Syntax: MAIL FROM:<address> [parameters]")
BAD_MAIL_FROM: Final = Reply.parse("501 5.1.7 Syntax error in the reverse-path")
NESTED_MAIL: Final = Reply.parse("503 5.5.1 MAIL was given already")
TOO_BIG: Final = Reply.parse("552 5.3.4 Message too big")
"""To SIZE= (RFC 1870 section 6.1), and after the message."""

# MAIL and RCPT --------------------------------------------------------------------------------------------

BAD_PARAMETER: Final = Reply.parse("501 5.5.4 Syntax error in the parameters")
SOURCE_ROUTE: Final = Reply.parse("550 5.7.1 Source routes are not accepted")
NEEDS_SMTPUTF8: Final = Reply.parse("553 5.6.7 SMTPUTF8 is needed for this address")
"""RFC 6531 section 3.5."""
UNKNOWN_PARAMETER: Final = Reply.parse("555 5.5.4 Parameter not recognized or not implemented")

# RCPT -----------------------------------------------------------------------------------------------------

RECIPIENT_OK: Final = Reply.parse("250 2.1.5 Recipient ok")
TOO_MANY_RECIPIENTS: Final = Reply.parse("452 4.5.3 Too many recipients")
OTHER_ROUTE: Final = Reply.parse("452 4.5.3 Send this recipient in a transaction of its own")
BAD_RCPT: Final = Reply.parse("501 5.5.4 Syntax: RCPT TO:<address> [parameters]")
BAD_RECIPIENT: Final = Reply.parse("501 5.1.3 Syntax error in the forward-path")
MAIL_FIRST: Final = Reply.parse("503 5.5.1 Send MAIL first")
NO_RELAYING: Final = Reply.parse("550 5.7.1 Relaying denied")

# DATA and BDAT (RFC 3030) ---------------------------------------------------------------------------------

START_DATA: Final = Reply.parse("354 End data with <CR><LF>.<CR><LF>")
CHUNK_OK: Final = Reply.parse("250 2.0.0 OK, chunk received")
BAD_CHUNK_SIZE: Final = Reply.parse("501 5.5.4 Syntax: BDAT size [LAST], closing the connection")
NOT_WITH_BDAT: Final = Reply.parse("503 5.5.1 Only BDAT or RSET may follow BDAT")
NO_TRANSACTION: Final = Reply.parse("503 5.5.1 No transaction has begun")
NO_VALID_RECIPIENTS: Final = Reply.parse("554 5.5.1 No valid recipients")

# The message ----------------------------------------------------------------------------------------------

STORE_FULL: Final = Reply.parse("452 4.3.1 Insufficient system storage, try again later")
BARE_NEWLINE: Final = Reply.parse("550 5.6.11 CR or LF alone, or NUL, in the message")
HEADER_TOO_LARGE: Final = Reply.parse("552 5.3.4 Header section too big")
LINE_TOO_LONG: Final = Reply.parse("552 5.6.0 Line of the message too long")
MAIL_LOOP: Final = Reply.parse("554 5.4.6 Too many Received fields, this is a mail loop")
"""RFC 5321 section 6.3."""


def stored(text: str, timing: ReplyTiming | None = None) -> Reply:
    """The message is committed to the store, or discarded: nothing is sent to an upstream server."""
    return Reply(code=250, enhanced="2.0.0", text=text, timing=timing)


# Rules ----------------------------------------------------------------------------------------------------

REFUSED_BY_POLICY: Final = Reply.parse("550 5.7.1 Refused by policy")
DEFERRED_BY_POLICY: Final = Reply.parse("451 4.7.1 Try again later")
DIFFERENT_ANSWERS: Final = Reply.parse("451 4.5.3 Recipients need different answers, send one by one")

# Upstream: what it cannot do, and what it did -------------------------------------------------------------

UNREACHABLE: Final = Reply.parse("451 4.4.1 The destination cannot be reached, try again later")
LOST: Final = Reply.parse("451 4.4.2 The connection to the destination failed, try again later")
INCONSISTENT: Final = Reply.parse("451 4.5.0 The destination answered inconsistently, try again later")
NO_DSN: Final = Reply.parse("451 4.3.5 Delivery status notifications are not available now")
NO_SMTPUTF8: Final = Reply.parse("550 5.6.7 The destination does not take internationalised mail")
"""RFC 6531 section 3.5."""
TOO_LARGE_UPSTREAM: Final = Reply.parse("552 5.3.4 Message too large for its destination")
NO_8BIT: Final = Reply.parse("554 5.6.3 The destination does not take 8-bit messages")
"""RFC 6152 section 3."""

# A release from quarantine --------------------------------------------------------------------------------

NO_COMMON_ROUTE: Final = Reply.parse("550 5.7.1 No route takes all of these recipients together")
