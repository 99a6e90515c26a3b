"""The events of SMTP sessions, for a terminal, the store and the web desk."""
