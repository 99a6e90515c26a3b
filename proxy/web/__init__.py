"""SHOW: the web desk, for messages, live conversations, journal and quarantine."""
