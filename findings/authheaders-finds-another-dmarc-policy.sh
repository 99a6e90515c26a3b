#!/bin/sh
# authheaders 0.16.3 with authres 1.2.0, dkimpy 1.1.8, dnspython 2.9.2 and publicsuffix2 2.20191221 (PyPI), Python 3.11.
# authheaders makes Authentication-Results, with DMARC, for milters and mailing lists in Python. Two results for honest mail
# are not those of RFC 7489. "sp" is the policy for subdomains (section 6.3): authheaders reports it for the domain itself,
# so that "p=none; sp=reject", as a domain in its trial has it, says "reject" for the domain's own mail. Of a domain in an
# address what is behind a "-" is cut: SPF that passed for the sender's own domain fails DMARC.
# Output: p=none; sp=reject: own policy reject, subdomain reject /
#  aligned SPF, mail.example.org: pass, out-mail.example.org: fail
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check authheaders==0.16.3 authres==1.2.0 dkimpy==1.1.8 \
  dnspython==2.9.2 publicsuffix2==2.20191221 setuptools==80.9.0 wheel==0.45.1 2>/dev/null
cat >"$here/check.py" <<'PY'
from authheaders import check_dmarc
from authres import SPFAuthenticationResult


def dmarc(author, record, spf=None):
    """The result for mail of this author, where each organizational domain has this record."""

    def answer(name):
        return record if name == "_dmarc.example.org" else None

    return check_dmarc(f"From: {author}\r\n\r\nHello\r\n".encode(), spf, dnsfunc=answer)


OWN = "v=DMARC1; p=none; sp=reject"
own, below = dmarc("ann@example.org", OWN), dmarc("ann@sub.example.org", OWN)
print(f"p=none; sp=reject: own policy {own.policy}, subdomain {below.policy}")
results = []
for domain in ("mail.example.org", "out-mail.example.org"):
    passed = SPFAuthenticationResult(result="pass", smtp_mailfrom=f"ann@{domain}")
    results.append(f"{domain}: {dmarc('ann@example.org', 'v=DMARC1; p=none', passed).result}")
print("aligned SPF,", ", ".join(results))
PY
seen=$("$here/venv/bin/python" "$here/check.py" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'p=none; sp=reject: own policy reject, subdomain reject / '\
'aligned SPF, mail.example.org: pass, out-mail.example.org: fail' ]
