"""Charts: right numbers in right places, nothing that a content security policy forbids."""

import re
from xml.etree import ElementTree as ET

import pytest
from gatepost.web.charts import Bar, Column, Series, horizontal_bars, stacked_columns

SERIES = (Series(name="relayed", label="relayed"), Series(name="refused", label="refused"))
COLUMNS = (
    Column(label="9:00", tick="9", values=(30, 10)),
    Column(label="10:00", values=(0, 0)),
    Column(label="11:00", tick="11", values=None),
    Column(label="12:00", values=(0, 7)),
)


def chart(series=SERIES, columns=COLUMNS, title="What became of mail"):
    return ET.fromstring(stacked_columns("mail", title=title, series=series, columns=columns))


def rects(tree, name):
    return [
        rect.attrib for rect in tree.iter("rect") if rect.get("class") == f"chart-{name}" and rect.get("y")
    ]


def test_parts_of_a_column_stand_on_each_other_in_proportion():
    tree = chart()
    relayed, (refused, _) = rects(tree, "relayed"), rects(tree, "refused")
    assert len(relayed) == 1
    below, above = relayed[0], refused
    assert float(below["y"]) == pytest.approx(float(above["y"]) + float(above["height"]))
    assert float(below["height"]) == pytest.approx(3 * float(above["height"]))
    assert below["x"] == above["x"] == "2.500%"


def test_what_is_not_counted_yet_is_shown_as_unknown_and_not_as_nothing():
    tree = chart()
    assert len(rects(tree, "unknown")) == 1
    assert "11:00: not counted yet" in [title.text for title in tree.iter("title")]


def test_it_can_be_read_without_being_seen():
    tree = chart()
    plot = tree.find("div/svg[@role]")
    ids = {node.get("id"): node.text for node in plot.iter() if node.get("id")}
    name, description = plot.get("aria-labelledby").split()
    assert plot.get("role") == "img"
    assert ids[name] == "What became of mail"
    assert ids[description] == "4 columns from 9:00 to 12:00. In all: 30 relayed, 17 refused."
    rows = [[cell.text for cell in row] for row in tree.iter("tr")]
    assert rows == [["Time", "relayed", "refused"], ["9:00", "30", "10"], ["12:00", "0", "7"]]


def test_series_without_a_value_take_no_room():
    tree = chart(columns=(Column(label="9:00", values=(1, 0)),))
    assert "refused" not in "".join(tree.find("ul").itertext())


@pytest.mark.parametrize("columns", [(), (Column(label="9:00", values=(0, 0)),)], ids=["none", "zero"])
def test_no_mail_gives_an_empty_plot(columns):
    tree = chart(columns=columns)
    assert not rects(tree, "relayed")
    assert tree.find("details") is None


@pytest.mark.parametrize(
    ("largest", "labels"),
    [
        (0, ["0", "1"]),
        (3, ["0", "1", "2", "3"]),
        (7, ["0", "2", "4", "6", "8"]),
        (20, ["0", "5", "10", "15", "20"]),
        (79, ["0", "20", "40", "60", "80"]),
        (4321, ["0", "2,000", "4,000", "6,000"]),
    ],
)
def test_the_axis_has_a_few_round_numbers(largest, labels):
    tree = chart(columns=(Column(label="9:00", values=(largest, 0)),))
    shown = [text.text for text in tree.iter("text") if text.get("class") == "chart-label"]
    assert shown == labels


def test_bars_are_a_table_with_lengths_in_proportion():
    bars = (
        Bar(label="192.0.2.1", value=8, shown="8", link="/journal?q=client:192.0.2.1"),
        Bar(label="192.0.2.2", value=2, shown="2", detail="slow"),
    )
    tree = ET.fromstring(horizontal_bars(title="Clients", value_title="Transactions", bars=bars))
    assert [rect.get("width") for rect in tree.iter("rect")] == ["100.00%", "25.00%"]
    assert [link.attrib for link in tree.iter("a")] == [{"href": "/journal?q=client:192.0.2.1"}]
    assert "".join(list(tree.iter("tr"))[2].itertext()) == "192.0.2.2 slow2"


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a'b&c"])
def test_names_from_mail_are_escaped_and_nothing_is_inline(hostile):
    texts = [
        stacked_columns(
            "mail",
            title=hostile,
            series=SERIES,
            columns=(Column(label=hostile, tick=hostile, values=(1, 2)),),
        ),
        horizontal_bars(
            title=hostile,
            value_title=hostile,
            bars=(Bar(label=hostile, value=0, shown=hostile, link=f"/journal?q={hostile}", detail=hostile),),
        ),
    ]
    for text in texts:
        tree = ET.fromstring(text)
        assert hostile in "".join(tree.itertext())
        assert not {node.tag for node in tree.iter()} & {"script", "style", "img", "foreignObject"}
        assert not {name for node in tree.iter() for name in node.attrib if re.match("style|on", name)}
