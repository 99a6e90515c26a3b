#!/bin/sh
# mail 2.7.1 (Debian's ruby-mail), Ruby 3.1.2.
# A message that is read and written again has its fields in another order: those that the library knows come first, in the
# order of a list of its own, the others behind them. Authentication-Results, whose place above a Received field says who
# added it (RFC 8601 section 5), then stands below all of them, and DKIM-Signature too, although fields of a trace must not
# be reordered (RFC 5322 section 3.6). If a message was resent twice (section 3.6.6), the two blocks, each with its own
# sender, recipient and date, are sorted into one another.
# Output:
#  read: Authentication Received DKIM Received From Date / written: Received Received Date From Authentication DKIM /
#  read: Resent-From bob, Resent-To cid, Resent-From ann, Resent-To bob /
#  written: Resent-From bob, Resent-From ann, Resent-To cid, Resent-To bob
set -eu
seen=$(ruby -W0 - <<'RB'
require "mail"

REST = "Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
TRACED = "Authentication-Results: mx.example.net; dkim=pass\r\n" \
  "Received: from b by mx; Mon, 30 Nov 2026 10:00:00 +0000\r\n" \
  "DKIM-Signature: v=1; d=example.org; s=a; h=from; bh=YQ==; b=YQ==\r\n" \
  "Received: from a by b; Mon, 30 Nov 2026 09:59:00 +0000\r\n" \
  "From: ann@example.org\r\nDate: Mon, 30 Nov 2026 09:58:00 +0000\r\n#{REST}"
RESENT = "Resent-From: bob@example.org\r\nResent-To: cid@example.org\r\n" \
  "Resent-From: ann@example.org\r\nResent-To: bob@example.org\r\n#{REST}"

def trace(text)
  text.scan(/^(Authentication|Received|DKIM|From|Date)(?:-\w+)?:/).join(" ")
end

def resent(text)
  text.scan(/^(Resent-\w+): (\w+)/).map { |pair| pair.join(" ") }.join(", ")
end

puts "read: #{trace(TRACED)}", "written: #{trace(Mail.new(TRACED).to_s)}"
puts "read: #{resent(RESENT)}", "written: #{resent(Mail.new(RESENT).to_s)}"
RB
)
seen=$(echo "$seen" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "read: Authentication Received DKIM Received From Date / \
written: Received Received Date From Authentication DKIM / \
read: Resent-From bob, Resent-To cid, Resent-From ann, Resent-To bob / \
written: Resent-From bob, Resent-From ann, Resent-To cid, Resent-To bob" ]
