"""The replies that the server itself gives (RFC 5321 section 4.2, RFC 3463)."""

from typing import Final

from gatepost.verdict import Reply

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """A command is refused with `reply`; the session goes on."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


OK: Final = Reply.parse("250 2.0.0 OK")
NOOP_OK: Final = Reply.parse("250 2.0.0 OK, nothing done")
CHUNK_OK: Final = Reply.parse("250 2.0.0 OK, chunk received")
BYE: Final = Reply.parse("221 2.0.0 Bye")
HELP: Final = Reply.parse("214 2.0.0 See RFC 5321, https://www.rfc-editor.org/rfc/rfc5321")
VERIFY_LATER: Final = Reply.parse("252 2.1.5 Send mail to it and the reply to RCPT will tell")
START_DATA: Final = Reply.parse("354 End data with <CR><LF>.<CR><LF>")
READY_FOR_TLS: Final = Reply.parse("220 2.0.0 Ready to start TLS")
AUTHENTICATED: Final = Reply.parse("235 2.7.0 Authentication successful")

TIMED_OUT: Final = Reply.parse("421 4.4.2 Timeout, closing the connection")
SHUTTING_DOWN: Final = Reply.parse("421 4.3.2 Shutting down, try again later")
TOO_MANY_CONNECTIONS: Final = Reply.parse("421 4.7.0 Too many connections, try again later")
TOO_MANY_ERRORS: Final = Reply.parse("421 4.7.0 Too many errors, closing the connection")
TOO_MANY_TRIES: Final = Reply.parse("421 4.7.0 Too many failed authentications, closing the connection")
EARLY_TALKER: Final = Reply.parse("421 4.7.0 You must wait for the greeting")
NOT_SMTP: Final = Reply.parse("421 4.7.0 This is an SMTP server, closing the connection")
SESSION_FAILED: Final = Reply.parse("421 4.3.0 Temporary failure, closing the connection")

OUT_OF_MEMORY: Final = Reply.parse("452 4.3.1 Not enough memory now, try again later")
TOO_MANY_RECIPIENTS: Final = Reply.parse("452 4.5.3 Too many recipients")

COMMAND_TOO_LONG: Final = Reply.parse("500 5.5.2 Command line too long")
RESPONSE_TOO_LONG: Final = Reply.parse("500 5.5.6 Response too long")
BAD_COMMAND_LINE: Final = Reply.parse("500 5.5.2 A command is printable characters, then CR LF")
UNKNOWN_COMMAND: Final = Reply.parse("500 5.5.1 Command not recognized")
BAD_ARGUMENT: Final = Reply.parse("501 5.5.4 Syntax error in the argument")
NO_ARGUMENT_ALLOWED: Final = Reply.parse("501 5.5.4 This command takes no argument")
HELO_NEEDS_NAME: Final = Reply.parse("501 5.5.4 A domain name or address literal is expected")
BAD_MAIL: Final = Reply.parse("501 5.5.4 Syntax: MAIL FROM:<address> [parameters]")
BAD_RCPT: Final = Reply.parse("501 5.5.4 Syntax: RCPT TO:<address> [parameters]")
BAD_MAIL_FROM: Final = Reply.parse("501 5.1.7 Syntax error in the reverse-path")
BAD_RECIPIENT: Final = Reply.parse("501 5.1.3 Syntax error in the forward-path")
BAD_PARAMETER: Final = Reply.parse("501 5.5.4 Syntax error in the parameters")
BAD_CHUNK_SIZE: Final = Reply.parse("501 5.5.4 Syntax: BDAT size [LAST], closing the connection")
BAD_BASE64: Final = Reply.parse("501 5.5.2 Cannot decode the response")
AUTH_CANCELLED: Final = Reply.parse("501 5.7.0 Authentication cancelled")
NOT_IMPLEMENTED: Final = Reply.parse("502 5.5.1 Command not implemented")
HELO_FIRST: Final = Reply.parse("503 5.5.1 Send EHLO or HELO first")
MAIL_FIRST: Final = Reply.parse("503 5.5.1 Send MAIL first")
NESTED_MAIL: Final = Reply.parse("503 5.5.1 MAIL was given already")
NOT_IN_TRANSACTION: Final = Reply.parse("503 5.5.1 Not allowed during a mail transaction")
NOT_WITH_BDAT: Final = Reply.parse("503 5.5.1 Only BDAT or RSET may follow BDAT")
NOT_OFFERED: Final = Reply.parse("503 5.5.1 Not offered in this session")
ALREADY_AUTHENTICATED: Final = Reply.parse("503 5.5.1 Already authenticated")
UNKNOWN_MECHANISM: Final = Reply.parse("504 5.5.4 Authentication mechanism not supported")
TLS_REQUIRED: Final = Reply.parse("530 5.7.0 Issue STARTTLS first")
AUTH_REQUIRED: Final = Reply.parse("530 5.7.0 Authentication required")
BAD_CREDENTIALS: Final = Reply.parse("535 5.7.8 Authentication credentials invalid")
AUTH_NEEDS_TLS: Final = Reply.parse("538 5.7.11 Encryption required for authentication")
NOT_TRUSTED: Final = Reply.parse("550 5.7.0 Not allowed from this client")
BARE_NEWLINE: Final = Reply.parse("550 5.6.11 CR or LF alone, or NUL, in the message")
SOURCE_ROUTE: Final = Reply.parse("550 5.7.1 Source routes are not accepted")
TOO_BIG: Final = Reply.parse("552 5.3.4 Message too big")
LINE_TOO_LONG: Final = Reply.parse("552 5.6.0 Line of the message too long")
NEEDS_SMTPUTF8: Final = Reply.parse("553 5.6.7 SMTPUTF8 is needed for this address")
NO_VALID_RECIPIENTS: Final = Reply.parse("554 5.5.1 No valid recipients")
UNKNOWN_PARAMETER: Final = Reply.parse("555 5.5.4 Parameter not recognized or not implemented")
