"""SHOW: the web desk, for messages, live conversations, journal and quarantine.

    server      run: the desk's own process, until it is told to stop
    app         create_app: routes, middleware and the life of the application
    desk        what pages and API share: the store, the mode, release, changes
    security    who may ask, from where, and what a browser may do with the answer
    sessions    who has logged in
    rendering   templates, and how values are shown in them
    events      server-sent events: the store has changed
    pages/      one module a page
    problems    what went wrong, for programs (RFC 9457)
    waiting     requests that wait for mail
    api/        the same over HTTP for programs, with a page about it
    view/       octets of a hostile message -> values that a page can show

Only this package imports Starlette, uvicorn, Jinja2, nh3 and sse-starlette.
"""

from gatepost.web.server import run

__all__ = ["run"]
