"""The values that are passed through Gatepost: session, message, verdict, outcome, plan, record.

All of them are immutable; nothing here does I/O.
"""
