"""Processes: which run, as which user, and with which resources."""
