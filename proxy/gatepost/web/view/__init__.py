"""VIEW: octets of a hostile message -> values that a page can show.

    message      the view of one message
    document     its HTML, sanitised; with css and images
    text         its text; with links and codes found in it
    tree         its MIME structure; with attachments
    lint         what is wrong with it, and with the commands before it
    highlight    where a filter found what it looked for

Pure functions: nothing is fetched, nothing raises on any message, and the time is linear and bounded.
"""

from gatepost.web.view.attachments import AttachmentView
from gatepost.web.view.highlight import Piece, highlight
from gatepost.web.view.links import LinkView
from gatepost.web.view.lint import Finding, lint_commands, worst_first
from gatepost.web.view.message import MessageView, attachment, view_message
from gatepost.web.view.tree import Node

__all__ = [
    "AttachmentView",
    "Finding",
    "LinkView",
    "MessageView",
    "Node",
    "Piece",
    "attachment",
    "highlight",
    "lint_commands",
    "view_message",
    "worst_first",
]
