"""A certificate and its key, of a listener and of the web desk."""

from gatepost.config.fields import File
from gatepost.config.section import Settings

__all__ = ["CertificateSettings"]


class CertificateSettings(Settings):
    """A certificate for TLS; its files are read again at SIGHUP and SIGUSR2."""

    certificate: File
    """PEM file: the certificate and its chain."""
    key: File
    """PEM file: the private key."""
