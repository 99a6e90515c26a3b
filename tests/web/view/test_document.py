"""HTML of mail: its dark styles, and what is said of the elements that are left out."""

import re

import pytest
from gatepost.web.view import in_colors, view_message

HEADERS = b"From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"


def view(html):
    return view_message(HEADERS + html.encode())


def removed(html):
    return {one.element: one.count for one in view(html).removed}


def marks(html):
    return re.findall(r'<span class="gatepost-removed-(\w+)"></span>', view(html).html)


@pytest.mark.parametrize(
    ("html", "dark", "light"),
    [
        (
            "<style>@media (prefers-color-scheme: dark){p{color:#fff}}</style>",
            "@media (min-width:0){\np{color:#fff}\n}",
            "@media (max-width:0){\np{color:#fff}\n}",
        ),
        (
            "<style media='(PREFERS-color-scheme :dark)'>p{color:#fff}</style>",
            "@media (min-width:0){p{color:#fff}}",
            "@media (max-width:0){p{color:#fff}}",
        ),
        (
            "<style>@media screen and (prefers-color-scheme:light) , print{p{color:#fff}}</style>",
            "@media screen and (max-width:0) , print{",
            "@media screen and (min-width:0) , print{",
        ),
        (
            "<style>@media not all and (prefers-color-scheme:dark){p{color:#000}}</style>",
            "@media not all and (min-width:0){",
            "@media not all and (max-width:0){",
        ),
        (
            "<style>@media (max-width:600px){@media (prefers-color-scheme:dark){p{color:#fff}}}</style>",
            "@media (max-width:600px){\n@media (min-width:0){",
            "@media (max-width:600px){\n@media (max-width:0){",
        ),
    ],
)
def test_rules_for_light_or_dark_apply_as_is_chosen_whatever_the_browser_prefers(html, dark, light):
    document = view(html).html
    assert dark in in_colors(document, "dark")
    assert light in in_colors(document, "light")
    for colors in ("dark", "light"):
        assert "prefers-color-scheme" not in in_colors(document, colors)


@pytest.mark.parametrize(
    ("html", "has_dark_styles", "has_dark_ground"),
    [
        ("<p>Hi", False, False),
        ("<style>@media (prefers-color-scheme: light){p{color:#000}}</style>", False, False),
        ("<style>@media (prefers-color-scheme: dark){p{color:#fff}}</style>", True, False),
        ("<meta name=color-scheme content='light dark'>", True, True),
        ('<META CONTENT="dark" NAME="supported-color-schemes">', True, True),
        ("<meta name='color-scheme' content='light only'>", False, False),
        ("<meta name='description' content='dark'>", False, False),
        ("<style>:root{color-scheme:light dark;supported-color-schemes:light dark}</style>", True, True),
        ("<style>:root { color-scheme : light }</style>", False, False),
        ("<style>.dark{color:#fff}</style>", False, False),
    ],
)
def test_a_mail_with_dark_styles_is_known(html, has_dark_styles, has_dark_ground):
    seen = view(html)
    assert seen.dark_styles == has_dark_styles
    assert ("color-scheme:dark" in seen.html) == has_dark_ground


def test_words_of_the_mail_are_never_rewritten():
    words = "(prefers-color-scheme: dark)"
    assert words in in_colors(view(f"<p title='{words}'>{words}").html, "dark")


@pytest.mark.parametrize(
    ("html", "counts", "places"),
    [
        ("<p>Hi", {}, []),
        ("<form action=x><input><select><option>a</select><button>b</button></form>", {"form": 1}, ["form"]),
        ("<form></form><input>a<textarea>b</textarea>", {"form": 1, "field": 2}, ["form", "field", "field"]),
        ("<form><input></FORM><form>", {"form": 2}, ["form", "form"]),
        ("<input type=hidden name=a><input type='checkbox'>", {"field": 1}, ["field"]),
        ("<svg><script>1</script><svg><p>a</svg></svg><svg/>b<svg>c</svg>", {"svg": 3}, ["svg"] * 3),
        (
            "<video src=a><source src=b>text</video><audio></audio>",
            {"video": 1, "audio": 1},
            ["video", "audio"],
        ),
        ("<object data=a><embed src=b></object><embed src=c>d<embed>", {"object": 3}, ["object"] * 3),
        ("<iframe src=a>b</iframe><canvas></canvas>", {"frame": 1, "canvas": 1}, ["frame", "canvas"]),
        ("<math><mi>x</mi></math>", {"math": 1}, ["math"]),
        ("<script>1</script><SCRIPT src=a></SCRIPT>", {"script": 2}, []),
        ("<script type='application/ld+json'>{}</script>", {}, []),
        ("<!-- <form> --><![CDATA[<svg>]]><style>/* <form> */</style>", {}, []),
        ("&lt;form&gt; <p title='<form>'>", {}, []),
        ("<form" + " a=b" * 500 + ">", {"form": 1}, ["form"]),
        ("<form>" * 500, {"form": 500}, ["form"] * 200),
        ("<svg>" * 300 + "<form>", {"svg": 1}, ["svg"]),
        ("</form></svg></svg><svg></svg>", {"svg": 1}, ["svg"]),
        ("<for\0m><formx><xform>", {}, []),
        ("<form", {}, []),
    ],
)
def test_what_is_left_out_is_counted_and_marked_where_it_was(html, counts, places):
    assert removed(html) == counts
    assert marks(html) == places


def test_marks_are_no_text_and_part_no_words():
    seen = view(
        "<p>Your co<svg></svg>de is <input>482913</p><form><a href='https://a.example/'>Go</a></form>"
    )
    assert seen.text == "Your code is 482913\n\nGo"
    assert seen.codes == ("482913",)
    assert 'content:"A form was removed here"' in seen.html
    assert "gatepost-removed" not in view("<p>Hi").html


@pytest.mark.parametrize(
    "html",
    [
        '<video src="https://x.example/a.mp4" style="background:url(https://x.example/b.png)"></video>',
        '<audio src="https://x.example/a.mp3"></audio>',
        '<embed src="https://x.example/a">',
        '<input type="image" src="https://x.example/a.png">',
        '<form background="https://x.example/a.png" style="background:url(https://x.example/b.png)"></form>',
    ],
)
def test_what_is_left_out_has_no_images_that_could_be_loaded(html):
    shown = view(f'{html}<img src="https://x.example/shown.png">')
    assert (shown.blocked_images, len(shown.removed)) == (1, 1)
