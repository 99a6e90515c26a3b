#!/bin/sh
# authres 1.2.0 (PyPI), Mail::AuthenticationResults 2.20230112 (Debian's libmail-authenticationresults-perl).
# In Authentication-Results a quoted text and a comment may have a quoted pair, a backslash before the character that is
# meant (RFC 5322 section 3.2.1). authres leaves it in a value, and escapes it once more when it writes the field: each
# time that it passes, a value has more backslashes, and another user is named. The Perl module takes a "\)" for the end
# of a comment and refuses the field. authres refuses a blank between a comment and "=" behind the version of a method,
# and so the RFC's own example of a field with comments (RFC 8601 appendix B.7). Each reads what the other refuses.
# Output: authres: once smtp.auth="ann\\\"x", twice smtp.auth="ann\\\\\\\"x" / comment: authres reads, perl refuses /
#  blanks: authres refuses, perl reads
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check authres==1.2.0 2>/dev/null
cat >"$here/read.py" <<'PY'
import subprocess

import authres


def again(field):
    return str(authres.AuthenticationResultsHeader.parse(field))


def readers(value):
    try:
        again(f"Authentication-Results: {value}")
        first = "reads"
    except authres.core.SyntaxError:
        first = "refuses"
    program = "use Mail::AuthenticationResults::Parser; Mail::AuthenticationResults::Parser->new->parse(shift)"
    second = subprocess.run(["perl", "-e", program, value], stderr=subprocess.DEVNULL)
    return f"authres {first}, perl {'refuses' if second.returncode else 'reads'}"


once = again(r'Authentication-Results: example.org; auth=pass smtp.auth="ann\"x"')
print("authres: once", once.split()[-1] + ", twice", again(once).split()[-1])
print("comment:", readers(r"example.org; spf=pass (sent by a server \) of ours) smtp.mailfrom=example.net"))
print("blanks:", readers("example.org; dkim/1 (as it was) = pass header.d=example.net"))
PY
seen=$("$here/venv/bin/python" "$here/read.py" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'authres: once smtp.auth="ann\\\"x", twice smtp.auth="ann\\\\\\\"x" / comment: authres reads, perl refuses / '\
'blanks: authres refuses, perl reads' ]
