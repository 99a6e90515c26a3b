# Perl's MIME::Parser, which amavis and MIMEDefang read mail with.
use strict;
use warnings;
use Encode qw(decode find_encoding FB_DEFAULT);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use MIME::Parser;
use MIME::WordDecoder;

binmode STDIN;
$| = 1;
my $json = JSON::PP->new->ascii->canonical;
while (read(STDIN, my $prefix, 4)) {
    my $length = unpack("N", $prefix);
    my $message = "";
    while (length($message) < $length) {
        read(STDIN, $message, $length - length($message), length($message)) or last;
    }
    my %shown = (texts => [], attachments => []);
    my $parser = MIME::Parser->new;
    $parser->output_to_core(1);
    $parser->tmp_to_core(1);
    $parser->extract_uuencode(1);
    local $SIG{__WARN__} = sub { };
    eval { read_part($parser->parse_data($message), \%shown, 1); 1 } or $shown{error} = "$@";
    print $json->encode(\%shown), "\n";
}

sub read_part {
    my ($part, $shown, $is_message) = @_;
    my $subject = $part->head->get("Subject", 0);
    push @{ $shown->{texts} }, words($subject) if $is_message && defined $subject;
    my $type = lc($part->effective_type || "text/plain");
    my $name = $part->head->recommended_filename;
    my @names = defined $name && length $name ? (characters($name)) : ();
    if ($part->parts) {
        push @{ $shown->{attachments} }, { names => \@names, type => $type, octets => undef } if @names;
        read_part($_, $shown, $type eq "message/rfc822") for $part->parts;
        return;
    }
    my $octets = $part->bodyhandle ? $part->bodyhandle->as_string : "";
    my $text = $type =~ m{^text/};
    if ($text) {
        my $charset = $part->head->mime_attr("content-type.charset") || "utf-8";
        my $encoding = find_encoding($charset) || find_encoding("utf-8");
        push @{ $shown->{texts} }, $encoding->decode(my $copy = $octets, FB_DEFAULT);
    }
    my $disposition = lc($part->head->mime_attr("content-disposition") || "");
    if (@names || $disposition eq "attachment" || !$text) {
        push @{ $shown->{attachments} },
            { names => \@names, type => $type, octets => encode_base64($octets, "") };
    }
}

# recommended_filename returns octets of UTF-8.
sub characters {
    my ($name) = @_;
    return utf8::is_utf8($name) ? $name : decode("UTF-8", $name, FB_DEFAULT);
}

# Encoded-words as characters.
sub words {
    my ($value) = @_;
    my $decoded = eval { mime_to_perl_string($value) };
    return defined $decoded ? $decoded : $value;
}
