"""The operation that has rules learn whether a message is spam."""

from typing import Any

from gatepost.config import ConfigError
from gatepost.model.user import Need
from gatepost.web.api.change_responses import Learned, LearnedBy, NotLearned
from gatepost.web.api.messages import stored_message
from gatepost.web.api.operation import Call, NoParameters, Operation
from gatepost.web.api.requests import Learn
from gatepost.web.problems import Kind, Problem
from gatepost.web.security import actor

__all__ = ["operations"]

_DESCRIPTION = """
As the buttons Spam and Not spam of the desk, and `gatepost learn`: each rule with `learn: true` in rules.yaml
learns the message as it was received. The message stays where it is.
""".strip()


async def _learn(call: Call[NoParameters, Learn]) -> Learned:
    desk, kind = call.desk, call.body.kind
    kept = await stored_message(call)
    if not desk.learners:
        raise Problem(Kind.NO_LEARNING, "No rule in rules.yaml has `learn: true`")
    try:
        found = await desk.learn(kept, kind, actor=actor(call.request))
    except ConfigError as error:
        raise Problem(Kind.NOT_LEARNED, f"The settings are wrong: {error}", rules=[]) from None
    rules: Any = [LearnedBy.model_validate(one).model_dump(mode="json") for one in found]
    if failed := [one for one in found if not one.succeeded]:
        detail = "; ".join(f"{one.rule}: {one.text}" for one in failed)
        raise Problem(Kind.NOT_LEARNED, detail, rules=rules)
    return Learned(kind=kind, rules=rules)


operations = (
    Operation(
        method="POST",
        path="/messages/{id}/learn",
        name="learnMessage",
        needs=Need.OPERATE_ALL,
        audit="message.learn",
        group="Messages",
        summary="Have scanners learn that a message is spam, or that it is not",
        description=_DESCRIPTION,
        run=_learn,
        body=Learn,
        answer=Learned,
        problems={
            Kind.NOT_FOUND: None,
            Kind.AMBIGUOUS: None,
            Kind.NO_LEARNING: None,
            Kind.NOT_LEARNED: NotLearned,
        },
    ),
)
