"""The HTTP API of the desk: JSON under ``/api/v1``, and a page about it at ``/api/``.

messages, wait, conversations, journal, quarantine, about
              the operations, each module with its part of the table
operation     a row of that table, and how a request becomes a call
asked         what requests may ask with
answers       what they are answered with
openapi       the OpenAPI document
page          the page that people read
"""

from gatepost.web.api.page import OPERATIONS, routes

__all__ = ["OPERATIONS", "routes"]
