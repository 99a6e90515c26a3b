"""What is wrong with a message, with the advice that mends it."""

from dataclasses import dataclass

from proxy.mime import Header
from proxy.mime.structure import Entity


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    severity: str
    code: str
    text: str
    where: str


def lint(content: bytes, headers: tuple[Header, ...], root: Entity) -> tuple[Finding, ...]:
    return ()
