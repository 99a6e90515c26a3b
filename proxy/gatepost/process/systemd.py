"""Notifications for systemd (sd_notify): ready, reloading, stopping."""

import os

__all__ = ["Systemd"]

_MISSING = (
    "NOTIFY_SOCKET is set, as systemd does for Type=notify, but the package cysystemd is not installed, "
    "expected pip install 'gatepost[systemd]'"
)


class Systemd:
    """The service manager that started this process."""

    def __init__(self) -> None:
        """Raises OSError if the package for this is not installed."""
        try:
            from cysystemd import daemon  # noqa: PLC0415 - an extra, and only needed under systemd
        except ImportError as error:
            raise OSError(_MISSING) from error
        self._daemon = daemon

    @classmethod
    def that_waits(cls) -> "Systemd | None":
        """The service manager, if it waits for notifications; raises OSError as the constructor."""
        return cls() if os.environ.get("NOTIFY_SOCKET") else None

    def ready(self, status: str) -> None:
        """The start, or a reload, has ended; the status is shown by ``systemctl status``."""
        self._daemon.notify(self._daemon.Notification.STATUS, status)
        self._daemon.notify(self._daemon.Notification.READY)

    def reloading(self) -> None:
        """A reload has begun."""
        self._daemon.notify(self._daemon.Notification.RELOADING)

    def stopping(self) -> None:
        """The service stops."""
        self._daemon.notify(self._daemon.Notification.STOPPING)
