"""Enhanced status codes in words (RFC 3463, and the registry of RFC 5248)."""

import re

__all__ = ["status_words"]

_CLASSES = {"2": "Delivered", "4": "Not delivered yet", "5": "Not delivered"}
_SUBJECTS = {
    "0": "no reason is told",
    "1": "something is wrong with the address",
    "2": "something is wrong with the mailbox",
    "3": "something is wrong with the receiving mail system",
    "4": "something is wrong with the network or the routing",
    "5": "the servers do not agree about the protocol",
    "6": "the content or its form is not accepted",
    "7": "security or policy forbids it",
}
_DETAILS = {
    "1.1": "there is no such mailbox",
    "1.2": "there is no such mail domain",
    "1.3": "the recipient's address is malformed",
    "1.4": "the address could mean several mailboxes",
    "1.5": "the address is valid",
    "1.6": "the mailbox has moved, and nobody knows where to",
    "1.7": "the sender's address is malformed",
    "1.8": "the domain of the sender's address does not exist",
    "1.9": "the message was relayed to a mailer that does not report",
    "1.10": "the domain accepts no mail (null MX)",
    "2.1": "the mailbox is disabled",
    "2.2": "the mailbox is full",
    "2.3": "the message is longer than the mailbox accepts",
    "2.4": "the mailing list could not be expanded",
    "3.1": "the mail system is full",
    "3.2": "the mail system accepts no messages now",
    "3.3": "the mail system lacks a feature that the message needs",
    "3.4": "the message is too big for the mail system",
    "3.5": "the mail system is configured wrongly",
    "3.6": "the requested priority was changed",
    "4.1": "the receiving server did not answer",
    "4.2": "the connection broke",
    "4.3": "the name server did not answer",
    "4.4": "no server for the domain was found",
    "4.5": "the mail system has too much to do",
    "4.6": "a routing loop was found",
    "4.7": "it took too long",
    "5.1": "a command is not valid",
    "5.2": "a command has a syntax error",
    "5.3": "there are too many recipients",
    "5.4": "a command has wrong arguments",
    "5.5": "the protocol version is wrong",
    "5.6": "the authentication exchange is too long",
    "6.1": "the type of the content is not supported",
    "6.2": "the content would have to be converted, which is forbidden",
    "6.3": "the content would have to be converted, which is not supported",
    "6.4": "the content was converted with loss",
    "6.5": "the content could not be converted",
    "6.6": "the content is not available",
    "6.7": "addresses beyond ASCII are not supported",
    "6.8": "a reply beyond ASCII is not possible",
    "6.9": "headers beyond ASCII could not be delivered",
    "6.10": "addresses beyond ASCII are not supported",
    "7.1": "delivery is not authorised; the message was refused",
    "7.2": "sending to the mailing list is not allowed",
    "7.3": "a security conversion is required and not possible",
    "7.4": "a security feature is not supported",
    "7.5": "cryptography failed",
    "7.6": "the cryptographic algorithm is not supported",
    "7.7": "the message was altered",
    "7.8": "the credentials are wrong",
    "7.9": "the authentication mechanism is too weak",
    "7.10": "encryption is needed",
    "7.11": "encryption is required for this authentication mechanism",
    "7.12": "a new password is needed",
    "7.13": "the account is disabled",
    "7.14": "a trust relationship is required",
    "7.15": "the priority is too low",
    "7.16": "the message is too big for its priority",
    "7.17": "the mailbox has another owner now",
    "7.18": "the domain has another owner now",
    "7.19": "the required condition about the recipient cannot be checked",
    "7.20": "no DKIM signature passed",
    "7.21": "no acceptable DKIM signature was found",
    "7.22": "no DKIM signature of the author's domain was found",
    "7.23": "SPF validation failed",
    "7.24": "SPF validation had an error",
    "7.25": "the client's address has no valid reverse DNS",
    "7.26": "several authentication checks failed",
    "7.27": "the sender's domain accepts no mail (null MX)",
    "7.28": "there were too many messages: a flood",
    "7.29": "ARC validation failed",
    "7.30": "the receiving server does not require TLS",
}
_CODE = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})(?!\d)")


def status_words(status: str) -> str:
    """What an enhanced status code means; empty for what is no code of class 2, 4 or 5.

    A code that is not registered is as much as its class and subject say.
    """
    found = _CODE.match(status)
    if not found:
        return ""
    kind, subject, detail = (str(int(number)) for number in found.groups())
    reason = _DETAILS.get(f"{subject}.{detail}") or _SUBJECTS.get(
        subject, "for a reason that is not registered"
    )
    if kind == "2" and f"{subject}.{detail}" in ("0.0", "1.5"):
        return _CLASSES[kind]
    return f"{_CLASSES[kind]}: {reason}"
