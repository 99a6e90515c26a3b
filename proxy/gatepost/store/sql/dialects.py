"""The few conditions that each database writes in its own way."""

from typing import Any

from sqlalchemy import Boolean, ColumnElement, Integer, and_, func, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from gatepost.model.verdict import Action
from gatepost.store.sql.rows import refusal_pattern

__all__ = ["FoundAt", "LastRefusal"]


class LastRefusal(FunctionElement[bool]):
    """Whether that rule was the last one to be asked, and its answer refused; of ``evaluations``."""

    type = Boolean()
    inherit_cache = True

    def __init__(self, evaluations: ColumnElement[Any], rule: str) -> None:
        super().__init__(evaluations, literal(rule), literal(refusal_pattern(rule)))


@compiles(LastRefusal, "sqlite")
def _last_refusal_in_sqlite(element: LastRefusal, compiler: SQLCompiler, **options: Any) -> str:
    evaluations, rule, _ = element.clauses
    asked, action, observed = (
        func.json_extract(evaluations, f"$[#-1].{key}") for key in ("rule", "action", "observed")
    )
    refuses = action.in_([action.value for action in Action if action.refuses])
    return compiler.process(and_(asked == rule, refuses, observed == 0), **options)


@compiles(LastRefusal, "postgresql")
def _last_refusal_in_postgresql(element: LastRefusal, compiler: SQLCompiler, **options: Any) -> str:
    """Not with the functions for JSON: they refuse a text with an escaped NUL or lone surrogate."""
    evaluations, _, pattern = element.clauses
    return compiler.process(evaluations.regexp_match(pattern), **options)


class FoundAt(FunctionElement[int]):
    """Where a text begins in another one, from 1; 0: nowhere."""

    type = Integer()
    inherit_cache = True


@compiles(FoundAt, "sqlite")
def _found_at_in_sqlite(element: FoundAt, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(func.instr(*element.clauses), **options)


@compiles(FoundAt, "postgresql")
def _found_at_in_postgresql(element: FoundAt, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(func.strpos(*element.clauses), **options)
