#!/bin/sh
# parsedmarc 11.1.0 (PyPI).
# A failure report says in fields, which may be folded as those of any message, what failed (RFC 5965 section 3, RFC 6591
# section 3.1, RFC 9991 section 4); the RFCs fold Authentication-Results in their examples, as most senders do. parsedmarc
# reads the first line of a field: of Authentication-Results the name of the server is left, and no result. An
# Identity-Alignment that begins on the second line counts as missing, and so "nothing was aligned" is
# reported for a message with an aligned DKIM signature. Of several Original-Rcpt-To (RFC 5965 section 3.3) the last is
# left. Nothing is reported: the same fields on one line are read.
# Output: folded: 'mx.example.net;' [] <cid@example.net> /
#  one line: 'mx.example.net; spf=fail smtp.mailfrom=example.org' ['dkim'] <cid@example.net>
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check parsedmarc==11.1.0 2>/dev/null
cat >"$here/read.py" <<'PY'
import logging

import parsedmarc

logging.disable()
REPORT = (
    "From: reports@example.net\r\nTo: dmarc@example.org\r\nSubject: Failure\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n"
    "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain\r\n\r\nA message failed.\r\n"
    "--b\r\nContent-Type: message/feedback-report\r\n\r\n"
    "Feedback-Type: auth-failure\r\nUser-Agent: Example/1.0\r\nVersion: 1\r\nSource-IP: 192.0.2.1\r\n"
    "Arrival-Date: Mon, 30 Nov 2026 09:59:00 +0000\r\nReported-Domain: example.org\r\nAuth-Failure: spf\r\n"
    "Original-Rcpt-To: <bob@example.net>\r\nOriginal-Rcpt-To: <cid@example.net>\r\n"
    "Authentication-Results: mx.example.net;{fold} spf=fail smtp.mailfrom=example.org\r\n"
    "Identity-Alignment:{fold} dkim\r\n\r\n"
    "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: ann@example.org\r\nSubject: Minutes\r\n\r\nHello\r\n--b--\r\n"
)
for name, fold in (("folded", "\r\n"), ("one line", "")):
    got = parsedmarc.parse_report_email(REPORT.format(fold=fold).encode(), offline=True, always_use_local_files=True)
    assert got["report_type"] == "failure"
    report = got["report"]
    print(f"{name}: {report['authentication_results']!r} {report['authentication_mechanisms']} {report['original_rcpt_to']}")
PY
seen=$("$here/venv/bin/python" "$here/read.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "folded: 'mx.example.net;' [] <cid@example.net> / \
one line: 'mx.example.net; spf=fail smtp.mailfrom=example.org' ['dkim'] <cid@example.net>" ]
