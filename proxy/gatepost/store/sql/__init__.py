"""What the backends on SQL databases share: tables, rows, conditions, the writer, retention, statistics.

Nothing here knows a driver. Only this folder and the backends' own import SQLAlchemy.
"""
