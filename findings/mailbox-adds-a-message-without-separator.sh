#!/bin/sh
# Python 3.11 (standard library, module mailbox).
# White space before the colon of a header field is obsolete, and receivers must take it (RFC 5322 section 4.5). A
# message whose first field is written "From : ann@example.org" looks to mailbox.mbox.add() as if it began with an mbox
# separator of its own: it writes none. Read back, the message has no From field, and get_from() returns its value. A
# reader of the file that wants a separator joins the message to the one before it.
# Output: fields Subject, To / separator ': ann@example.org'
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/add.py" <<'PY'
import mailbox
import sys

box = mailbox.mbox(sys.argv[1])
box.add(b"From : ann@example.org\nTo: bob@example.org\nSubject: Minutes\n\nHello\n")
box.close()
(message,) = mailbox.mbox(sys.argv[1])
print("fields", ", ".join(sorted(message.keys())), "/", "separator", repr(message.get_from()))
PY
seen=$(python3 "$here/add.py" "$here/box")
echo "$seen"
[ "$seen" = "fields Subject, To / separator ': ann@example.org'" ]
