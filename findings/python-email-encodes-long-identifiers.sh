#!/bin/sh
# Python 3.11.2 (standard library, module email, policies default and SMTP).
# A message that is read and written again has its long lines folded anew. A word that is too long for a line of 78
# characters, though every reader takes 998 (RFC 5322 section 2.1.1), is written as encoded words: the identifiers of
# In-Reply-To and References, the address of List-Unsubscribe, a tag of DKIM-Signature, where RFC 2047 section 5 allows none.
# Nothing there decodes them: the thread is broken, the link is dead, the signature fails. Message-ID is spared. The
# manual says that refold_source="long" refolds such lines, not that it encodes plain ASCII; "none" leaves them alone.
# Output: encoded: In-Reply-To References List-Unsubscribe DKIM-Signature /
#  kept: Message-ID / with refold_source none: all kept
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/fold.py" <<'PY'
import email
import email.policy

IDENTIFIER = f"<{'a' * 70}@mail.example.org>"
FIELDS = {
    "Message-ID": IDENTIFIER,
    "In-Reply-To": IDENTIFIER,
    "References": f"<1@example.org> {IDENTIFIER}",
    "List-Unsubscribe": f"<https://example.org/{'x' * 80}>",
    "DKIM-Signature": f"v=1; a=rsa-sha256; b={'A' * 88}",
}
mail = "".join(f"{name}: {value}\r\n" for name, value in FIELDS.items()).encode() + b"\r\nHello\r\n"


def encoded(policy):
    written = email.message_from_bytes(mail, policy=policy).as_bytes()
    plain = email.message_from_bytes(written)
    return [name for name in FIELDS if "=?utf-8?q?" in plain[name]]


assert encoded(email.policy.default) == encoded(email.policy.SMTP)
changed = encoded(email.policy.SMTP)
print("encoded:", *changed)
print("kept:", *(name for name in FIELDS if name not in changed))
none = encoded(email.policy.SMTP.clone(refold_source="none"))
print("with refold_source none:", *none or ["all kept"])
PY
seen=$(python3 "$here/fold.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "encoded: In-Reply-To References List-Unsubscribe DKIM-Signature / kept: Message-ID / \
with refold_source none: all kept" ]
