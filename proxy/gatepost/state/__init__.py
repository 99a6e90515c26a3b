"""What filters remember: values and counts by key, shared by the workers, kept over reloads and restarts."""

from gatepost.state.contract import Amount, Counted
from gatepost.state.state import State

__all__ = ["Amount", "Counted", "State"]
