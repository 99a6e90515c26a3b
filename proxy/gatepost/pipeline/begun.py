"""Questions that are begun before the turn of their rule: filters wait for the network side by side."""

import asyncio
import inspect
import time
from collections.abc import Coroutine, Mapping

from gatepost.pipeline.ask import FilterAnswer, cancel

__all__ = ["Begun", "Question"]


class Question:
    """One question that was begun; its answer is awaited when it is the rule's turn."""

    __slots__ = ("_asking", "_task", "seconds")

    def __init__(self, asking: Coroutine[None, None, FilterAnswer | None]) -> None:
        self.seconds = 0.0
        """How long the filter took, when it has answered."""
        self._asking = asking
        self._task = asyncio.get_running_loop().create_task(self._timed(asking))

    async def _timed(self, asking: Coroutine[None, None, FilterAnswer | None]) -> FilterAnswer | None:
        begin = time.perf_counter()
        try:
            return await asking
        finally:
            self.seconds = time.perf_counter() - begin

    async def answer(self) -> FilterAnswer | None:
        """The answer; raises FilterFailedError or FilterTimeoutError."""
        return await self._task

    def cancel(self) -> None:
        """End it; the answer is not needed."""
        cancel(self._task)
        if inspect.getcoroutinestate(self._asking) == inspect.CORO_CREATED:  # its turn has not come
            self._asking.close()


class Begun:
    """The questions that were begun at one stage."""

    __slots__ = ("_questions",)

    def __init__(self, questions: Mapping[int, Question]) -> None:
        """The questions by the place of their rule in the file."""
        self._questions = dict(questions)

    def take(self, index: int) -> Question | None:
        """The question of a rule, if it was begun and not taken yet."""
        return self._questions.pop(index, None)

    def cancel(self) -> None:
        """End those that were not taken: an earlier rule has decided."""
        for question in self._questions.values():
            question.cancel()
