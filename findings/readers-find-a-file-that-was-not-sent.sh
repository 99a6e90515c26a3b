#!/bin/sh
# Python 3.11.2 email (both policies), MIME-tools 5.510 (libmime-tools-perl); GMime 3.2.13 (gir1.2-gmime-3.0) for comparison.
# A part of type message/external-body says where a file is kept: the fields in it, with their type, are those of the file,
# and what follows them is no content and should be ignored (RFC 2046 section 5.2.3). A message/partial holds a piece of a
# message, cut anywhere, that means nothing before all are joined (section 5.2.2). Python and MIME-tools read both as whole
# messages: walk() finds a PDF with the words of a hint as its content, and half a file that looks whole. A filter that
# asks for the type, the hash or the text of each file judges what does not exist, and get_payload() of the outer part has
# no bytes that could be passed on. GMime returns each as one part with its bytes.
# Output: external-body: python application/pdf b'phantom', perl application/pdf phantom, gmime message/external-body /
#  partial: python application/pdf b'%PDF-1.7 half', perl application/pdf %PDF-1.7 half, gmime message/partial
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/read.py" <<'PY'
import email
import email.policy
import subprocess
import sys

EXTERNAL = (
    "From: ann@example.org\r\nMIME-Version: 1.0\r\n"
    'Content-Type: message/external-body; access-type=URL; URL="https://example.org/a.pdf"\r\n\r\n'
    "Content-Type: application/pdf\r\nContent-ID: <1@example.org>\r\n\r\nphantom"
)
PARTIAL = (
    "From: ann@example.org\r\nMIME-Version: 1.0\r\n"
    'Content-Type: message/partial; id="1@example.org"; number=1; total=2\r\n\r\n'
    "From: ann@example.org\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\n\r\n%PDF-1.7 half"
)
PERL = (
    "use MIME::Parser; my $parser = MIME::Parser->new; $parser->output_to_core(1); local $/;"
    "my ($part) = $parser->parse_data(<STDIN>)->parts; print $part->effective_type, ' ', $part->bodyhandle->as_string"
)
GMIME = """
import sys
import gi
gi.require_version("GMime", "3.0")
from gi.repository import GMime
GMime.init()
stream = GMime.StreamMem.new_with_buffer(sys.stdin.buffer.read())
part = GMime.Parser.new_with_stream(stream).construct_message(None).get_mime_part()
print(part.get_content_type().get_mime_type(), end="")
"""


def run(command, mail):
    return subprocess.run(command, input=mail.encode(), capture_output=True, check=True).stdout.decode()


for name, mail in (("external-body", EXTERNAL), ("partial", PARTIAL)):
    both = set()
    for policy in (email.policy.compat32, email.policy.default):
        *_, last = email.message_from_string(mail, policy=policy).walk()
        both.add(f"{last.get_content_type()} {last.get_payload(decode=True)}")
    (python,) = both
    perl, gmime = run(["perl", "-e", PERL], mail), run([sys.executable, "-c", GMIME], mail)
    print(f"{name}: python {python}, perl {perl}, gmime {gmime}")
PY
seen=$(/usr/bin/python3 "$here/read.py" | paste -sd'|' | sed 's,|, / ,g')
printf '%s\n' "$seen"
[ "$seen" = "external-body: python application/pdf b'phantom', perl application/pdf phantom, gmime message/external-body / \
partial: python application/pdf b'%PDF-1.7 half', perl application/pdf %PDF-1.7 half, gmime message/partial" ]
