#!/bin/sh
# Mail::Address of MailTools 2.21 (Debian's libmailtools-perl), Python 3.11.2 email for comparison.
# A field of addresses may have groups, also empty ones, as in "To: undisclosed-recipients:;" (RFC 5322 section 3.4 and
# appendix A.1.3). Mail::Address->parse reads them as addresses: an empty group is one address with the text
# "undisclosed-recipients:", the name of a group becomes part of the first member's name, and nothing tells where the group
# ends. What answers to all, or counts recipients, so has one that nobody can be reached at. A source route (section 4.4)
# stays in the address, too. Python returns the members.
# Output: undisclosed-recipients:;: perl undisclosed-recipients: python none / Team:Ann <ann@x.test>;: perl Team : Ann
#  ann@x.test python Ann ann@x.test / <@a.test:bob@x.test>: perl @a.test:bob@x.test python bob@x.test
set -eu
seen=$(for field in 'undisclosed-recipients:;' 'Team:Ann <ann@x.test>;' '<@a.test:bob@x.test>'; do
  perl -MMail::Address -e 'print "$ARGV[0]: perl ", join(" + ", map { join(" ", grep { length } $_->phrase, $_->address) }
  Mail::Address->parse($ARGV[0]))' "$field"
  python3 -c 'import sys
from email.headerregistry import HeaderRegistry
found = HeaderRegistry()("to", sys.argv[1]).addresses
texts = [" ".join(filter(None, (each.display_name, each.addr_spec))) for each in found]
print(" python", " + ".join(texts) or "none")' "$field"
done | paste -sd+ | sed 's,+, / ,g')
echo "$seen"
[ "$seen" = "undisclosed-recipients:;: perl undisclosed-recipients: python none / \
Team:Ann <ann@x.test>;: perl Team : Ann ann@x.test python Ann ann@x.test / \
<@a.test:bob@x.test>: perl @a.test:bob@x.test python bob@x.test" ]
