"""Which rules hold sessions although nobody can answer for them."""

from gatepost.config import LoadedConfig, Problem
from gatepost.model.verdict import Action

__all__ = ["hold_warnings"]


def hold_warnings(loaded: LoadedConfig) -> list[Problem]:
    """Warnings of rules that hold sessions without a web desk: their ``on_error`` answers at once."""
    if loaded.config.web:
        return []
    return [
        loaded.problem(
            ("rules", number, "action"),
            f"nobody can answer for a session that is held, so on_error: {rule.on_error} answers at once",
            "a web desk: web: 127.0.0.1:8025",
        )
        for number, rule in enumerate(loaded.config.rules)
        if rule.action is Action.HOLD and rule.mode == "enforce"
    ]
