"""The web desk: messages, live conversations, journal and quarantine.

It runs in a process of its own. Only this package imports Starlette, uvicorn, Jinja2, nh3 and sse-starlette.
"""

from gatepost.web.accounts import Accounts
from gatepost.web.server import run

__all__ = ["Accounts", "run"]
