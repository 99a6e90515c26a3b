"""OpenDMARC's library: DMARC, from the results for SPF and DKIM that it is told."""

import ctypes
import json
import socket
import struct
import sys
import tempfile

IPV4, MAIL_FROM, PASS, FAIL, TEMPORARY = 4, 1, 1, 2, 3
OUTCOMES = {"pass": PASS, "temperror": TEMPORARY, "none": 0}
POLICIES = {14: "none", 15: "pass", 16: "fail reject", 17: "fail quarantine", 18: "fail none"}
NO_RECORD = {9, 10}

lib = ctypes.CDLL("libopendmarc.so.2")
lib.opendmarc_policy_connect_init.restype = ctypes.c_void_p
lib.opendmarc_policy_status_to_str.restype = ctypes.c_char_p


class Settings(ctypes.Structure):
    """OPENDMARC_LIB_T."""

    _fields_ = (
        ("tld_type", ctypes.c_int),
        ("tld_source_file", ctypes.c_char * 4096),
        ("count", ctypes.c_int),
        ("servers", ctypes.c_char * 16 * 3),
    )


def judge(letter):
    context = ctypes.c_void_p(lib.opendmarc_policy_connect_init(letter["client"].encode(), IPV4))
    try:
        lib.opendmarc_policy_store_from_domain(context, letter["author"].encode())
        domain, result = letter["spf"]
        lib.opendmarc_policy_store_spf(context, domain.encode(), OUTCOMES.get(result, FAIL), MAIL_FROM, None)
        for domain, result in letter["dkim"]:
            lib.opendmarc_policy_store_dkim(
                context, domain.encode(), b"sel", OUTCOMES.get(result, FAIL), None
            )
        status = lib.opendmarc_policy_query_dmarc(context, letter["author"].encode())
        if status and status not in NO_RECORD:
            return {"dmarc": lib.opendmarc_policy_status_to_str(status).decode()}
        return {"dmarc": POLICIES[lib.opendmarc_get_policy_to_enforce(context)]}
    finally:
        lib.opendmarc_policy_connect_shutdown(context)


given = json.load(sys.stdin)
host, _, port = given["server"].partition(":")
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", int(port)) + socket.inet_aton(host) + bytes(8)
with tempfile.NamedTemporaryFile(prefix="public-suffixes-") as suffixes:
    suffixes.write(b"example\n")
    suffixes.flush()
    settings = Settings(tld_type=1, tld_source_file=suffixes.name.encode(), count=1)
    ctypes.memmove(settings.servers, address, len(address))
    assert not lib.opendmarc_policy_library_init(ctypes.byref(settings))
    json.dump([judge(letter) for letter in given["letters"]], sys.stdout)
