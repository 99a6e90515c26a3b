"""Questions to DNS (RFC 1034, RFC 1035): one resolver with a cache for all of a process."""

from gatepost.dns.answer import Answer, DnsStatus
from gatepost.dns.resolver import Resolver

__all__ = ["Answer", "DnsStatus", "Resolver"]
