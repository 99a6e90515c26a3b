"""GMime, which Pan, Balsa and notmuch read mail with; started with Debian's Python, which has its binding."""

import base64
import json
import sys

import gi

gi.require_version("GMime", "3.0")
from gi.repository import GMime  # noqa: E402 # its version is chosen first


def read(content):
    shown = {"texts": [], "attachments": []}
    parser = GMime.Parser.new_with_stream(GMime.StreamMem.new_with_buffer(content))
    message = parser.construct_message(None)
    if message is None:
        return shown | {"error": "no message"}
    read_message(message, shown)
    return shown


def read_message(message, shown):
    shown["texts"].append(message.get_subject() or "")
    read_part(message.get_mime_part(), shown)


def read_part(part, shown):
    if isinstance(part, GMime.Multipart):
        for number in range(part.get_count()):
            read_part(part.get_part(number), shown)
        return
    if part is None:
        return
    declared = part.get_content_type()
    kind = declared.get_mime_type().lower() if declared else "text/plain"
    if isinstance(part, GMime.MessagePart):
        name = part.get_content_disposition_parameter("filename") or part.get_content_type_parameter("name")
        if name:
            shown["attachments"].append({"names": [name], "type": kind, "octets": None})
        if part.get_message() is not None:
            read_message(part.get_message(), shown)
        return
    if not isinstance(part, GMime.Part):
        return
    if isinstance(part, GMime.TextPart):
        shown["texts"].append(text_of(part))
    name = part.get_filename()
    if name or part.is_attachment() or not isinstance(part, GMime.TextPart):
        names = [name] if name else []
        octets = base64.b64encode(octets_of(part)).decode()
        shown["attachments"].append({"names": names, "type": kind, "octets": octets})


def text_of(part):
    try:
        return part.get_text() or ""
    except UnicodeDecodeError:  # without a charset it comes as it stands
        return octets_of(part).decode("utf-8", "replace")


def octets_of(part):
    content = part.get_content()
    if content is None:
        return b""
    stream = GMime.StreamMem.new()
    content.write_to_stream(stream)
    stream.flush()
    return bytes(stream.get_byte_array())


GMime.init()
while prefix := sys.stdin.buffer.read(4):
    octets = sys.stdin.buffer.read(int.from_bytes(prefix, "big"))
    try:
        found = read(octets)
    except Exception as error:  # noqa: BLE001 # whatever it is, it has no opinion of this message
        found = {"error": repr(error)}
    print(json.dumps(found, ensure_ascii=True), flush=True)
