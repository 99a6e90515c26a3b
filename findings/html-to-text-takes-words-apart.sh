#!/bin/sh
# inscriptis 2.7.6, html-text 0.7.1 and html2text 2025.4.15 (PyPI).
# Word processors put a part of a word into an element of its own, where its language or spelling was checked. What is shown
# as "meeting" is "meet ing" for inscriptis if the element is a span, and for html-text whatever it is; html2text sets a
# blank behind a part that is bold. A search for the word does not find it. Where a block ends, inscriptis sets nothing
# after hr, dt, form and section, and two words become one. It also decodes twice: a mail about HTML says
# "&amp;lt;b&amp;gt;", which is shown as "&lt;b&gt;", and inscriptis returns "<b>".
# Output: the lines at the end; right are "meeting", "meetings", two words four times, and "&lt;b&gt;".
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q inscriptis==2.7.6 html-text==0.7.1 html2text==2025.4.15 2>/dev/null
cat >"$here/read.py" <<'PY'
import html2text
import html_text
import inscriptis

MAIL = (
    "<p>meet<span>ing</span></p>",
    "<p>meet<b>ing</b>s</p>",
    "a<hr>b",
    "<dl><dt>a<dd>b</dl>",
    "<form>a</form>b",
    "<section>a</section>b",
    "<p>&amp;lt;b&amp;gt;</p>",
)
for name, read in (
    ("inscriptis", inscriptis.get_text), ("html-text", html_text.extract_text), ("html2text", html2text.html2text)
):
    print(name + ":", " | ".join(" ".join(read(text).split()) for text in MAIL))
PY
seen=$("$here/venv/bin/python" "$here/read.py")
echo "$seen"
[ "$seen" = "inscriptis: meet ing | meetings | ab | ab | ab | ab | <b>
html-text: meet ing | meet ing s | a b | a b | a b | a b | &lt;b&gt;
html2text: meeting | meet**ing** s | a * * * b | a b | ab | ab | &lt;b&gt;" ]
