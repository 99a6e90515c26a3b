#!/bin/sh
# mail 2.7.1 (Debian's ruby-mail), Ruby 3.1.2.
# A delivery status notification has a group of fields for each recipient (RFC 3464 section 2.3). Of one with a single
# group mail returns texts, of one with more it returns arrays, and what it concludes from them changes: two recipients
# that failed permanently (5.1.1) may be tried again, says `retryable?`, as it matches a pattern with an array, and
# `bounced?` looks at the first group alone: a failure behind a success is none. A program that removes dead addresses
# keeps these.
# Output: one failure: bounced, not retryable / two failures: bounced, retryable / success, failure: not bounced, retryable /
#  failure, success: bounced, retryable
set -eu
seen=$(ruby -W0 - <<'RB'
require "mail"

def notification(*statuses)
  groups = statuses.each_with_index.map do |(action, status), number|
    "Final-Recipient: rfc822; user#{number}@example.org\r\nAction: #{action}\r\nStatus: #{status}\r\n\r\n"
  end
  Mail.new(
    "From: postmaster@example.org\r\nTo: ann@example.net\r\nMIME-Version: 1.0\r\n" \
    "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" \
    "--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n" \
    "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n#{groups.join}" \
    "--b--\r\n"
  )
end

FAILURE = ["failed", "5.1.1"]
SUCCESS = ["delivered", "2.1.5"]
{
  "one failure" => [FAILURE],
  "two failures" => [FAILURE, FAILURE],
  "success, failure" => [SUCCESS, FAILURE],
  "failure, success" => [FAILURE, SUCCESS],
}.each do |name, statuses|
  mail = notification(*statuses)
  puts "#{name}: #{"not " unless mail.bounced?}bounced, #{"not " unless mail.retryable?}retryable"
end
RB
)
seen=$(echo "$seen" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "one failure: bounced, not retryable / two failures: bounced, retryable / \
success, failure: not bounced, retryable / failure, success: bounced, retryable" ]
