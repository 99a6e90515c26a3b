"""READ: message bytes -> headers, texts, attachments.

    fields     header sections and their fields, in the message's order
    words      a field's value as characters
    parameters those of Content-Type and Content-Disposition
    entity     a message or a part of one, and what its fields declare
    structure  entities in entities, where each begins and ends
    delimiters lines that part a multipart
    scan       the parts of a message whose structure is in doubt: what any reader may see
    transfer   transfer encodings; uuencode: files in texts; tnef, rtf: what Outlook packs into winmail.dat
    charsets   charsets
    text       the characters of a text part; flowed: with its lines joined
    markup     HTML as plain text
    view       what a message says: all of that together

Readers differ. What a filter is shown is what any of the common ones would show: of a part that can be
read in two ways both readings. Nothing here raises on any message, and the time is linear in its size.
"""

from gatepost.mime.fields import Header
from gatepost.mime.view import Attachment, MimeView, Text, read_message

__all__ = ["Attachment", "Header", "MimeView", "Text", "read_message"]
