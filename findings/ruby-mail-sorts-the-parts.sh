#!/bin/sh
# mail 2.7.1 (Debian's ruby-mail), Ruby 3.1.2.
# A message that is read and written again has its parts in another order: plain text, HTML, then the rest, and what is an
# attachment last. In multipart/mixed the order is part of what was said (RFC 2046 section 5.1.3: "Hello", a file, "signed,
# Ann"); in multipart/alternative the last part is the best one (section 5.1.4); in multipart/related the first is the one
# to be shown, which needs the others (RFC 2387 section 3.2); in multipart/signed it is what was signed, here a file, and
# the signature is the second (RFC 1847 section 2.1). All four are sorted. In a name within quotes the backslash of a
# quoted pair (RFC 5322 section 3.2.1) is kept, and escaped: each time that the message passes, there are more.
# Output: mixed: plain pdf plain, written plain plain pdf / alternative: html plain, written plain html /
#  related: html plain, written plain html / signed: pdf pgp-signature, written pgp-signature pdf /
#  a\"b.pdf, written twice a\\\\\\\"b.pdf
set -eu
seen=$(ruby -W0 - <<'RB'
require "mail"

def message(type, *parts)
  "From: ann@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/#{type}; boundary=b\r\n\r\n" +
    parts.map { |part| "--b\r\n#{part}\r\n" }.join + "--b--\r\n"
end

def types(text)
  Mail.new(text).parts.map(&:sub_type).join(" ")
end

def again(text)
  Mail.new(text).to_s
end

PLAIN = "Content-Type: text/plain\r\n\r\nHello"
HTML = "Content-Type: text/html\r\n\r\n<p>Hello"
FILE = "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n\r\nx"
SIGNATURE = "Content-Type: application/pgp-signature\r\n\r\nx"
{
  "mixed" => [PLAIN, FILE, PLAIN],
  "alternative" => [HTML, PLAIN],
  "related; type=\"text/html\"" => [HTML, PLAIN],
  "signed; protocol=\"application/pgp-signature\"" => [FILE, SIGNATURE],
}.each do |type, parts|
  text = message(type, *parts)
  puts "#{type[/\w+/]}: #{types(text)}, written #{types(again(text))}"
end
named = message("mixed", FILE.sub("a.pdf", "a\\\\\"b.pdf"))
puts "#{Mail.new(named).parts[0].filename}, written twice #{Mail.new(again(again(named))).parts[0].filename}"
RB
)
seen=$(printf '%s\n' "$seen" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = "mixed: plain pdf plain, written plain plain pdf / alternative: html plain, written plain html / \
related: html plain, written plain html / signed: pdf pgp-signature, written pgp-signature pdf / "'a\"b.pdf, written twice '\
'a\\\\\\\"b.pdf' ]
