"""Python's email package, with its policy ``default`` and its policy ``compat32``: what either shows."""

import base64
import email
import email.header
import email.policy
import email.utils
import json
import sys


def read(content):
    shown = {"texts": [], "attachments": []}
    errors = []
    for policy in (email.policy.default, email.policy.compat32):
        try:
            message = email.message_from_bytes(content, policy=policy)
            parts = list(message.walk())
        except Exception as error:  # noqa: BLE001 # whatever it is, this policy has no opinion
            errors.append(repr(error))
            continue
        inner = [part.get_payload(0) for part in parts if is_message(part)]
        steps = [(read_subject, one) for one in (message, *inner)] + [(read_part, part) for part in parts]
        for step, part in steps:
            try:
                step(part, shown)
            except Exception as error:  # noqa: BLE001 # nor about this part
                errors.append(repr(error))
    return shown | {"error": "; ".join(errors)}


def is_message(part):
    return part.get_content_type() == "message/rfc822" and part.is_multipart()


def read_subject(part, shown):
    if "subject" in part:
        shown["texts"].append(decoded(part["subject"]))


def read_part(part, shown):
    name, kind = part.get_filename(), part.get_content_type()
    names = [decoded(name)] if name else []
    if part.is_multipart():
        if names:
            shown["attachments"].append({"names": names, "type": kind, "octets": None})
        return
    octets = part.get_payload(decode=True) or b""
    if kind.startswith("text/"):
        shown["texts"].append(text_of(octets, part.get_content_charset() or "us-ascii"))
    if names or part.get_content_disposition() == "attachment" or not kind.startswith("text/"):
        encoded = base64.b64encode(octets).decode()
        shown["attachments"].append({"names": names, "type": kind, "octets": encoded})


def decoded(value):
    """compat32 leaves encoded-words to the program that asks."""
    return str(email.header.make_header(email.header.decode_header(str(value))))


def text_of(octets, charset):
    try:
        return octets.decode(charset, "replace")
    except (LookupError, ValueError):
        return octets.decode("utf-8", "replace")


while prefix := sys.stdin.buffer.read(4):
    found = read(sys.stdin.buffer.read(int.from_bytes(prefix, "big")))
    print(json.dumps(found), flush=True)
