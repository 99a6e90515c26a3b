"""The HTTP API of the desk: JSON under ``/api/v1``, and a page about it at ``/api/``."""

from gatepost.web.api.page import OPERATIONS, routes

__all__ = ["OPERATIONS", "routes"]
