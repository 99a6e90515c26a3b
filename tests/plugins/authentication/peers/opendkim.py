"""OpenDKIM's library: DKIM, with the keys in a file."""

import base64
import ctypes
import json
import sys
import tempfile
from pathlib import Path

lib = ctypes.CDLL("libopendkim.so.11")
lib.dkim_init.restype = lib.dkim_verify.restype = ctypes.c_void_p
lib.dkim_sig_geterrorstr.restype = ctypes.c_char_p
QUERY_FILE, SETOPT, QUERYMETHOD, QUERYINFO = 1, 1, 6, 7
PASSED, MATCH, PROCESSED = 0x04, 0, 0x02


class Message:
    """One message that is verified."""

    def __init__(self, library, content):
        head, _, self.body = content.partition(b"\r\n\r\n")
        self.fields = []
        for line in head.split(b"\r\n"):
            if line[:1] in (b" ", b"\t"):
                self.fields[-1] += b"\r\n" + line
            else:
                self.fields.append(line)
        status = ctypes.c_int()
        self.handle = ctypes.c_void_p(lib.dkim_verify(library, b"id", None, ctypes.byref(status)))

    def results(self):
        """One for each signature, in the library's order; or the status that ended it."""
        for field in self.fields:
            lib.dkim_header(self.handle, field, len(field))
        status = lib.dkim_eoh(self.handle)
        if not status:
            lib.dkim_body(self.handle, self.body, len(self.body))
        status = status or lib.dkim_eom(self.handle, None)
        signatures, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_int()
        if lib.dkim_getsiglist(self.handle, ctypes.byref(signatures), ctypes.byref(count)):
            return []
        return [self.result(ctypes.c_void_p(signatures[number])) for number in range(count.value)]

    def result(self, signature):
        lib.dkim_sig_process(self.handle, signature)
        flags = lib.dkim_sig_getflags(signature)
        if flags & PASSED and lib.dkim_sig_getbh(signature) == MATCH:
            return "pass"
        error = lib.dkim_sig_geterrorstr(lib.dkim_sig_geterror(signature)).decode()
        if flags & PASSED or error == "no signature error":
            return "body hash mismatch"
        return error


given = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "keys")
    file.write_text("".join(f"{name} {record}\n" for name, record in given["keys"].items()))
    library = ctypes.c_void_p(lib.dkim_init(None, None))
    method, path = ctypes.c_int(QUERY_FILE), ctypes.create_string_buffer(bytes(file))
    assert not lib.dkim_options(library, SETOPT, QUERYMETHOD, ctypes.byref(method), ctypes.c_size_t(4))
    assert not lib.dkim_options(library, SETOPT, QUERYINFO, path, ctypes.c_size_t(len(path)))
    found = [
        {"dkim": Message(library, base64.b64decode(letter["content"])).results()}
        for letter in given["letters"]
    ]
json.dump(found, sys.stdout)
