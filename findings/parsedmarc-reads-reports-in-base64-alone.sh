#!/bin/sh
# parsedmarc 11.1.0 (PyPI).
# A report is a file in a message, and the message says how it is encoded: base64, quoted-printable or not at all (RFC 2045
# section 6). An aggregate report should be compressed, but need not be (RFC 9990, RFC 7489 section 7.2.1.1), and for XML
# without compression many mailers choose quoted-printable or 7bit. parsedmarc decodes base64 whatever the field says: of an
# XML report in another encoding it finds nothing and calls the message no report. A TLS report (RFC 8460), which may be
# sent as JSON, is read in 7bit, and fails in quoted-printable where a long line is broken. Each day's reports of
# such a sender are missing; with a mailbox they are moved to the folder for invalid ones.
# Output: base64: aggregate, smtp_tls / quoted-printable: InvalidDMARCReport, InvalidSMTPTLSReport /
#  7bit: InvalidDMARCReport, smtp_tls
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check parsedmarc==11.1.0 2>/dev/null
cat >"$here/read.py" <<'PY'
import json
import logging
from email.message import EmailMessage
from email.policy import SMTP

import parsedmarc

logging.disable()
AGGREGATE = """<?xml version="1.0" encoding="UTF-8"?>
<feedback>
<report_metadata><org_name>Example</org_name><email>reports@example.net</email><report_id>1</report_id>
<date_range><begin>1796000000</begin><end>1796086399</end></date_range></report_metadata>
<policy_published><domain>example.org</domain><p>none</p></policy_published>
<record><row><source_ip>192.0.2.1</source_ip><count>2</count>
<policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>pass</spf></policy_evaluated></row>
<identifiers><header_from>example.org</header_from></identifiers>
<auth_results><spf><domain>example.org</domain><result>pass</result></spf></auth_results></record>
</feedback>
"""
COUNTS = {"total-successful-session-count": 9, "total-failure-session-count": 0}
TLS = json.dumps(
    {
        "organization-name": "Example",
        "date-range": {"start-datetime": "2026-11-29T00:00:00Z", "end-datetime": "2026-11-29T23:59:59Z"},
        "contact-info": "reports@example.net",
        "report-id": "1",
        "policies": [{"policy": {"policy-type": "no-policy-found", "policy-domain": "example.org"}, "summary": COUNTS}],
    }
)


def read(report, type_, encoding):
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "reports@example.net", "dmarc@example.org", "Report"
    mail["Date"] = "Mon, 30 Nov 2026 10:00:00 +0000"
    mail.set_content("A report is attached.")
    main, _, sub = type_.partition("/")
    mail.add_attachment(report.encode(), main, sub, cte=encoding, filename="report")
    part = list(mail.iter_attachments())[0]
    assert part.get_content() in (report, report.encode())
    try:
        return parsedmarc.parse_report_email(mail.as_bytes(), offline=True, always_use_local_files=True)["report_type"]
    except parsedmarc.ParserError as error:
        return type(error).__name__


for encoding in ("base64", "quoted-printable", "7bit"):
    aggregate, tls = read(AGGREGATE, "application/xml", encoding), read(TLS, "application/tlsrpt+json", encoding)
    print(f"{encoding}: {aggregate}, {tls}")
PY
seen=$("$here/venv/bin/python" "$here/read.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "base64: aggregate, smtp_tls / quoted-printable: InvalidDMARCReport, InvalidSMTPTLSReport / \
7bit: InvalidDMARCReport, smtp_tls" ]
