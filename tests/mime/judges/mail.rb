# Ruby's mail.
require "base64"
require "json"
require "mail"

def clean(text)
  text = text.to_s
  text = text.encode("UTF-8", invalid: :replace, undef: :replace) unless text.encoding == Encoding::BINARY
  text.force_encoding("UTF-8").scrub
end

def read_part(part, shown)
  if part.multipart?
    part.parts.each { |inner| read_part(inner, shown) }
    return
  end
  type = (part.mime_type || "text/plain").downcase
  name = part.filename
  text = type.start_with?("text/")
  octets = part.body.decoded.to_s.b
  shown[:texts] << clean(part.decoded) if text
  if name || part.attachment? || !text
    shown[:attachments] << { names: name ? [clean(name)] : [], type: type, octets: Base64.strict_encode64(octets) }
  end
  read_message(octets, shown) if type == "message/rfc822"
end

def read_message(octets, shown)
  message = Mail.read_from_string(octets)
  shown[:texts] << clean(message.subject)
  read_part(message, shown)
end

$stdin.binmode
$stdout.sync = true
while (prefix = $stdin.read(4))
  message = $stdin.read(prefix.unpack1("N"))
  shown = { texts: [], attachments: [] }
  begin
    read_message(message, shown)
  rescue StandardError, SystemStackError => e
    shown[:error] = "#{e.class}: #{clean(e.message)[0, 200]}"
  end
  puts JSON.generate(shown, ascii_only: true)
end
