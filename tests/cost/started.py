"""``gatepost serve`` itself, counted up to its first fork: one line of JSON on standard output."""

import gc
import json
import os
import sys

import gatepost_start

counted = {"function calls": 0, "garbage collections": 0}


def count(frame, event, argument):
    if event in ("call", "c_call"):
        counted["function calls"] += 1


def note(phase, info):
    counted["garbage collections"] += phase == "start"


def report():
    """At the first fork: everything is imported, and the sockets are bound."""
    if sys.getprofile():
        sys.setprofile(None)
        gc.callbacks.remove(note)
        sys.stdout.write(json.dumps({**counted, "modules": len(sys.modules)}) + "\n")
        sys.stdout.flush()


os.register_at_fork(before=report)
gc.callbacks.append(note)
sys.setprofile(count)
gatepost_start.main()
