"""Parse the bytes of a hostile message into values that a page can show.

Pure functions: nothing is fetched, nothing raises on any message, and the time is linear and bounded.
"""

from gatepost.web.view.attachments import AttachmentView
from gatepost.web.view.document import Colors, in_colors
from gatepost.web.view.findings import Finding, worst_first
from gatepost.web.view.highlight import Piece, highlight
from gatepost.web.view.links import LinkView
from gatepost.web.view.lint_commands import lint_commands
from gatepost.web.view.main_link import MainLink
from gatepost.web.view.message import MessageView, attachment, plain_text, view_message
from gatepost.web.view.opened import OpenedPart, open_part
from gatepost.web.view.tree import Node

__all__ = [
    "AttachmentView",
    "Colors",
    "Finding",
    "LinkView",
    "MainLink",
    "MessageView",
    "Node",
    "OpenedPart",
    "Piece",
    "attachment",
    "highlight",
    "in_colors",
    "lint_commands",
    "open_part",
    "plain_text",
    "view_message",
    "worst_first",
]
