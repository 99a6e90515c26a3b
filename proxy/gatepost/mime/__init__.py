"""Parse message bytes into headers, texts and attachments.

Mail programs differ. A filter is shown what any of the common ones would show; a part that can be read in two
ways has both readings. Nothing here raises on any message, and the time is linear in its size.
"""

from gatepost.mime.address_list import Address
from gatepost.mime.fields import Header
from gatepost.mime.html import visible_text
from gatepost.mime.reading import read_message
from gatepost.mime.view import Attachment, MimeView, Text

__all__ = ["Address", "Attachment", "Header", "MimeView", "Text", "read_message", "visible_text"]
