"""What the tests of the web desk share."""

import asyncio

import pytest


@pytest.fixture
def until():
    """Wait until a condition holds that another task brings about."""

    async def wait(condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    return wait
