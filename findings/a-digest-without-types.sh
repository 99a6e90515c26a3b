#!/bin/sh
# mailparser 3.14.2, emailjs-mime-parser 2.0.7 and postal-mime 4.0.0 (npm), mail 2.7.1 (Debian's ruby-mail), Jakarta Mail
# 2.0.0 (libjakarta-mail-java), MIME-tools 5.510 (libmime-tools-perl), Python 3.11.2 email.
# A part of a multipart/digest that has no Content-Type is a message, not text (RFC 2046 section 5.1.5, whose example
# has no other parts). Four of seven readers take it for text: the fields of each letter, with its From, Subject and
# Date, are the first lines of a text, and what the letter says of its own type, encoding and parts is not read. A search
# in decoded texts then finds base64. Python, postal-mime and MIME-tools read it as the RFC says.
# Output: emailjs: text/plain R3J1ZXNzZQ== / jakarta: text/plain R3J1ZXNzZQ== / mailparser: R3J1ZXNzZQ== /
#  perl: message/rfc822 Gruesse / postal-mime: Gruesse / python: message/rfc822 Gruesse / ruby: text/plain R3J1ZXNzZQ==
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 emailjs-mime-parser@2.0.7 \
  postal-mime@4.0.0 >/dev/null
printf '%s\r\n' 'From: list@example.org' 'MIME-Version: 1.0' 'Content-Type: multipart/digest; boundary=b' '' --b '' \
  'From: ann@example.org' 'Subject: Letter' 'MIME-Version: 1.0' 'Content-Type: text/plain' \
  'Content-Transfer-Encoding: base64' '' R3J1ZXNzZQ== --b-- >"$here/mail.eml"
cat >"$here/read.py" <<'PY'
import email
import email.policy
import sys

with open(sys.argv[1], "rb") as file:
    (part,) = email.message_from_binary_file(file, policy=email.policy.default).get_payload()
inner = part.get_content() if part.is_multipart() else part
print("python:", part.get_content_type(), repr(inner.get_content()))
PY
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import emailjs from "emailjs-mime-parser";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";

const mail = readFileSync(process.argv[2]);
const [part] = (emailjs.default ?? emailjs)(mail.toString("latin1")).childNodes;
console.log("emailjs:", part.contentType.value, JSON.stringify(Buffer.from(part.content).toString()));
console.log("mailparser:", JSON.stringify((await simpleParser(mail)).text));
console.log("postal-mime:", JSON.stringify((await PostalMime.parse(mail)).text));
JS
cat >"$here/Read.java" <<'JAVA'
import jakarta.mail.Session;
import jakarta.mail.internet.MimeMessage;
import jakarta.mail.internet.MimeMultipart;
import java.io.FileInputStream;
import java.util.Properties;

class Read {
  public static void main(String[] arguments) throws Exception {
    var mail = new MimeMessage(Session.getInstance(new Properties()), new FileInputStream(arguments[0]));
    var part = ((MimeMultipart) mail.getContent()).getBodyPart(0);
    System.out.println("jakarta: " + part.getContentType() + " " + part.getContent().toString().replaceAll("\r\n", " "));
  }
}
JAVA
jars=/usr/share/java/jakarta-mail.jar:/usr/share/java/jakarta-activation.jar
seen=$( (
  python3 "$here/read.py" "$here/mail.eml"
  node "$here/read.mjs" "$here/mail.eml"
  java -cp "$jars" "$here/Read.java" "$here/mail.eml"
  ruby -W0 -rmail -e 'part, = Mail.read(ARGV[0]).parts; puts "ruby: #{part.mime_type} #{part.decoded.inspect}"' \
    "$here/mail.eml"
  perl -MMIME::Parser -e '(my $parser = MIME::Parser->new)->output_to_core(1);
my ($part) = $parser->parse_open($ARGV[0])->parts; my ($inner) = ($part->parts, $part);
print "perl: ", $part->mime_type, " ", $inner->bodyhandle->as_string, "\n"' "$here/mail.eml"
) | sed -E 's,^([a-z-]+: ([a-z]+/[a-z0-9]+ )?).*(R3J1ZXNzZQ==|Gruesse).*,\1\3,' |
  LC_ALL=C sort | paste -sd+ | sed 's,+, / ,g')
echo "$seen"
[ "$seen" = "emailjs: text/plain R3J1ZXNzZQ== / jakarta: text/plain R3J1ZXNzZQ== / mailparser: R3J1ZXNzZQ== / \
perl: message/rfc822 Gruesse / postal-mime: Gruesse / python: message/rfc822 Gruesse / ruby: text/plain R3J1ZXNzZQ==" ]
