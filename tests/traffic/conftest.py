"""The event loops that lines travel in."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    """The gateway's event loop; at full length asyncio's own too."""
    more = {"asyncio": asyncio.SelectorEventLoop} if config.getoption("--long") else {}
    return {"uvloop": uvloop.new_event_loop, **more}
