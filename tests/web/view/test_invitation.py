"""Calendar invitations: what a reader is told, of any text."""

from datetime import UTC, datetime

import pytest
from gatepost.web.view import view_message
from gatepost.web.view.invitation import read_invitation
from gatepost.web.view.recurrence import recurrence_words
from hypothesis import given
from hypothesis import strategies as st

BERLIN = """\
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:19701025T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19700329T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""
OUTLOOK = BERLIN.replace("Europe/Berlin", "W. Europe Standard Time").replace("1970", "1601")
CHANGES_OF_CLOCKS = (
    (
        "20260328T120000",
        "P1D",
        "Saturday, 28 March 2026, 12:00 to Sunday, 29 March 2026, 12:00",
        "2026-03-28 11:00",
    ),
    (
        "20260328T120000",
        "PT24H",
        "Saturday, 28 March 2026, 12:00 to Sunday, 29 March 2026, 13:00",
        "2026-03-28 11:00",
    ),
    (
        "20260328T013000",
        "P1DT1H",
        "Saturday, 28 March 2026, 01:30 to Sunday, 29 March 2026, 03:30",
        "2026-03-28 00:30",
    ),
    ("20260329T013000", "PT1H", "Sunday, 29 March 2026, 01:30 to 03:30", "2026-03-29 00:30"),
    (
        "20260329T130000",
        "-PT24H",
        "Sunday, 29 March 2026, 13:00 to Saturday, 28 March 2026, 12:00",
        "2026-03-29 11:00",
    ),
    (
        "20261024T120000",
        "PT24H",
        "Saturday, 24 October 2026, 12:00 to Sunday, 25 October 2026, 11:00",
        "2026-10-24 10:00",
    ),
    ("20261025T013000", "PT1H", "Sunday, 25 October 2026, 01:30 to 02:30", "2026-10-24 23:30"),
    ("20261025T013000", "PT2H", "Sunday, 25 October 2026, 01:30 to 02:30", "2026-10-24 23:30"),
    ("20261025T013000", "PT3H", "Sunday, 25 October 2026, 01:30 to 03:30", "2026-10-24 23:30"),
)
"""Start, duration, words, start in UTC: a day has 23 or 25 hours, an hour 60 minutes (RFC 5545, 3.3.6)."""
SOUND = "UID:1@example.com\nDTSTAMP:20261101T120000Z\nDTSTART:20261203T130000Z\nSUMMARY:Plan\n"


def calendar(lines=SOUND, *, method="REQUEST", zones="", kind="VEVENT"):
    says = f"METHOD:{method}\n" if method else ""
    return f"BEGIN:VCALENDAR\nVERSION:2.0\n{says}{zones}BEGIN:{kind}\n{lines}END:{kind}\nEND:VCALENDAR\n"


def zone(name, lines):
    return (
        f"BEGIN:VTIMEZONE\nTZID:{name}\nBEGIN:STANDARD\nDTSTART:19700101T000000\n{lines}\n"
        "END:STANDARD\nEND:VTIMEZONE\n"
    )


def read(lines, **options):
    return read_invitation(calendar(lines, **options), "REQUEST")


def test_an_invitation_says_who_invites_whom_to_what():
    text = calendar(
        "UID:1@example.com\nDTSTAMP:20261101T120000Z\nSEQUENCE:2\nSTATUS:CONFIRMED\n"
        "DTSTART;TZID=Europe/Berlin:20261203T140000\nDTEND;TZID=Europe/Berlin:20261203T153000\n"
        "SUMMARY:Planning\\, and\n  a lot mo\n\tre\nLOCATION:Room 1\\; left\n"
        "DESCRIPTION:Bring ideas.\\nC:\\\\plan\nRRULE:FREQ=WEEKLY;BYDAY=TH;COUNT=10\n"
        'ORGANIZER;SENT-BY="mailto:x@example.com";CN="Ann: A; B":mailto:ann@example.com\n'
        "ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=ACCEPTED;RSVP=TRUE;CN=Bob:MAILTO:bob@example.com\n"
        "attendee;partstat=needs-action:mailto:carol@example.com\n"
        "BEGIN:VALARM\nSUMMARY:Alarm\nDTSTART:20200101T000000Z\nEND:VALARM\n",
        zones=BERLIN,
    )
    event = read_invitation(text, "request")
    assert (event.method, event.kind, event.sequence, event.status) == ("REQUEST", "event", 2, "confirmed")
    assert (event.summary, event.location) == ("Planning, and a lot more", "Room 1; left")
    assert event.description == "Bring ideas.\nC:\\plan"
    assert event.when == "Thursday, 3 December 2026, 14:00 to 15:30 (Europe/Berlin)"
    assert event.start.utc == datetime(2026, 12, 3, 13, tzinfo=UTC)
    assert event.end.local == datetime(2026, 12, 3, 15, 30)  # noqa: DTZ001
    assert event.recurrence == "every week on Thursday, 10 times"
    assert (event.organizer.name, event.organizer.address) == ("Ann: A; B", "ann@example.com")
    assert [(a.name, a.address, a.role, a.status) for a in event.attendees] == [
        ("Bob", "bob@example.com", "req-participant", "accepted"),
        ("", "carol@example.com", "", "needs-action"),
    ]
    assert event.problems == ()


@pytest.mark.parametrize(
    ("lines", "zones", "when", "utc"),
    [
        ("DTSTART:20261203T130000Z", "", "Thursday, 3 December 2026, 13:00 (UTC)", "2026-12-03 13:00"),
        ("DTSTART:20261203T1300", "", "Thursday, 3 December 2026, 13:00 (local time)", None),
        ("DTSTART;VALUE=DATE:20261203", "", "Thursday, 3 December 2026", None),
        ("DTSTART;VALUE=DATE:20261203\nDTEND;VALUE=DATE:20261204", "", "Thursday, 3 December 2026", None),
        (
            "DTSTART:20261203\nDTEND:20261206",
            "",
            "Thursday, 3 December 2026 to Saturday, 5 December 2026",
            None,
        ),
        ("DTSTART:20261203\nDURATION:P1D", "", "Thursday, 3 December 2026", None),
        ("DTSTART:20261203\nDTEND:20261203", "", "Thursday, 3 December 2026", None),
        (
            "DTSTART:20261203T230000Z\nDURATION:PT2H",
            "",
            "Thursday, 3 December 2026, 23:00 to Friday, 4 December 2026, 01:00 (UTC)",
            "2026-12-03 23:00",
        ),
        (
            "DTSTART;TZID=W. Europe Standard Time:20260703T140000\nDURATION:PT1H30M",
            OUTLOOK,
            "Friday, 3 July 2026, 14:00 to 15:30 (W. Europe Standard Time)",
            "2026-07-03 12:00",
        ),
        (
            'DTSTART;TZID="Europe/Berlin":20261025T020000',
            BERLIN,
            "Sunday, 25 October 2026, 02:00 (Europe/Berlin)",
            "2026-10-25 00:00",
        ),
        (
            "DTSTART;TZID=Europe/Berlin:20260329T020000",
            BERLIN,
            "Sunday, 29 March 2026, 02:00 (Europe/Berlin)",
            "2026-03-29 00:00",
        ),
        (
            "DTSTART;TZID=Europe/Berlin:20260101T000000",
            BERLIN,
            "Thursday, 1 January 2026, 00:00 (Europe/Berlin)",
            "2025-12-31 23:00",
        ),
        *(
            (
                f"DTSTART;TZID=Europe/Berlin:{start}\nDURATION:{duration}",
                zones,
                f"{words} (Europe/Berlin)",
                utc,
            )
            for zones in (BERLIN, "")
            for start, duration, words, utc in CHANGES_OF_CLOCKS
        ),
        (
            "DTSTART;TZID=America/New_York:20260703T140000\nDTEND;TZID=Europe/Berlin:20260703T210000",
            "",
            "Friday, 3 July 2026, 14:00 (America/New_York) to Friday, 3 July 2026, 21:00 (Europe/Berlin)",
            "2026-07-03 18:00",
        ),
        (
            "DTSTART;TZID=/freeassociation.sourceforge.net/Europe/Berlin:20260703T140000",
            "",
            "Friday, 3 July 2026, 14:00 (/freeassociation.sourceforge.net/Europe/Berlin)",
            "2026-07-03 12:00",
        ),
        (
            "DTSTART;TZID=Nowhere/Land:20260703T140000",
            "",
            "Friday, 3 July 2026, 14:00 (Nowhere/Land)",
            None,
        ),
        (
            "DTSTART;TZID=../../etc/passwd:20260703T140000",
            "",
            "Friday, 3 July 2026, 14:00 (../../etc/passwd)",
            None,
        ),
        (
            "DTSTART;TZID=Fixed:20260703T140000",
            zone("Fixed", "TZOFFSETFROM:+0530\nTZOFFSETTO:+0530"),
            "Friday, 3 July 2026, 14:00 (Fixed)",
            "2026-07-03 08:30",
        ),
        (
            "DTSTART;TZID=Odd:20260703T140000",
            zone("Odd", "TZOFFSETTO:+0530\nRRULE:FREQ=MONTHLY;BYSETPOS=1"),
            "Friday, 3 July 2026, 14:00 (Odd)",
            None,
        ),
        (
            "DTSTART;TZID=West:99991231T235959",
            zone("West", "TZOFFSETTO:-0500"),
            "Friday, 31 December 9999, 23:59 (West)",
            None,
        ),
        ("DTSTART;TZID=Europe:20260703T140000", "", "Friday, 3 July 2026, 14:00 (Europe)", None),
        ("DTSTART;TZID=:20260703T140000", "", "Friday, 3 July 2026, 14:00 (local time)", None),
        ("DTSTART:20261303T130000Z", "", "", None),
        ("DTSTART:20260230", "", "", None),
        ("DTSTART:00000101T000000Z", "", "", None),
        ("DTSTART:tomorrow", "", "", None),
        ("DTEND:20261203T130000Z", "", "until Thursday, 3 December 2026, 13:00 (UTC)", None),
        (
            "DTSTART:20261203T130000Z\nDTEND:never",
            "",
            "Thursday, 3 December 2026, 13:00 (UTC)",
            "2026-12-03 13:00",
        ),
        (
            "DTSTART:20261203T130000Z\nDURATION:long",
            "",
            "Thursday, 3 December 2026, 13:00 (UTC)",
            "2026-12-03 13:00",
        ),
        ("DTSTART:20261203\nDTEND:20261203T130000Z", "", "Thursday, 3 December 2026", None),
        (
            "DTSTART:99991231T235959Z\nDURATION:P99999W",
            "",
            "Friday, 31 December 9999, 23:59 (UTC)",
            "9999-12-31 23:59",
        ),
        (
            "DTSTART;TZID=Europe/Berlin:00010101T000000",
            BERLIN,
            "Monday, 1 January 1, 00:00 (Europe/Berlin)",
            None,
        ),
        (
            "DTSTART;TZID=Europe/Berlin:99991231T235959",
            BERLIN,
            "Friday, 31 December 9999, 23:59 (Europe/Berlin)",
            "9999-12-31 22:59",
        ),
    ],
)
def test_when_it_is_with_its_time_zone(lines, zones, when, utc):
    event = read(f"{lines}\n", zones=zones)
    assert event.when == when
    found = event.start.utc if event.start else None
    assert (found.strftime("%Y-%m-%d %H:%M") if found else None) == utc


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=DAILY", "every day"),
        ("FREQ=DAILY;INTERVAL=3;COUNT=1", "every 3 days, once"),
        ("FREQ=WEEKLY;BYDAY=MO,WE,FR;WKST=MO", "every week on Monday, Wednesday and Friday"),
        ("freq=weekly;byday=mo,tu,we,th,fr", "every week from Monday to Friday"),
        ("FREQ=WEEKLY;INTERVAL=2;UNTIL=20261231T225959Z", "every 2 weeks, until Thursday, 31 December 2026"),
        ("FREQ=MONTHLY;BYDAY=2TU", "every month on the second Tuesday"),
        ("FREQ=MONTHLY;BYDAY=-1FR", "every month on the last Friday"),
        ("FREQ=MONTHLY;BYMONTHDAY=1,15", "every month on day 1 and 15"),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", "every month on the last day"),
        ("FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24", "every year in December on day 24"),
        ("FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU", "every year in March on the last Sunday"),
        ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1", ""),
        ("FREQ=WEEKLY;BYDAY=1MO", ""),
        ("FREQ=MONTHLY;BYDAY=9MO", ""),
        ("FREQ=SECONDLY", ""),
        ("FREQ=WEEKLY;INTERVAL=0", ""),
        ("FREQ=WEEKLY;COUNT=-3", ""),
        ("FREQ=YEARLY;BYMONTH=13", ""),
        ("FREQ=WEEKLY;BYDAY=", ""),
        ("FREQ=WEEKLY;UNTIL=soon", ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_a_simple_recurrence_is_said_in_words(rule, words):
    assert recurrence_words(rule) == words


def test_a_recurrence_that_is_not_simple_is_shown_as_it_is():
    assert read(f"{SOUND}RRULE:FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1\n").recurrence == (
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1"
    )


@pytest.mark.parametrize(
    ("text", "declared", "problem"),
    [
        (
            calendar(method=""),
            "",
            "The calendar has no METHOD: mail programs show it as a file, not as an invitation",
        ),
        (calendar(method="INVITE"), "invite", "METHOD INVITE is unknown"),
        (calendar(), "", "METHOD is REQUEST, but method of Content-Type is missing"),
        (calendar(), "cancel", "METHOD is REQUEST, but method of Content-Type is CANCEL"),
        (
            calendar("SUMMARY:x\nDTSTAMP:20261101T120000Z\nDTSTART:20261203\n"),
            "REQUEST",
            "The event has no UID",
        ),
        (calendar("SUMMARY:x\nUID:1\nDTSTART:20261203\n"), "REQUEST", "The event has no DTSTAMP"),
        (calendar("SUMMARY:x\nUID:1\nDTSTAMP:20261101T120000Z\n"), "REQUEST", "The event has no DTSTART"),
        (calendar(SOUND.replace("SUMMARY", "X")), "REQUEST", "The event has no SUMMARY"),
        (calendar(SOUND.replace("20261203T130000Z", "soon")), "REQUEST", "DTSTART cannot be read: soon"),
        (calendar(f"{SOUND}DURATION:1h\n"), "REQUEST", "DURATION cannot be read: 1h"),
        (
            calendar(SOUND.replace("DTSTART:20261203T130000Z", "DTSTART;TZID=Europe/Berlin:20261203T130000")),
            "REQUEST",
            "The time zone Europe/Berlin has no VTIMEZONE",
        ),
    ],
)
def test_what_calendar_programs_may_not_understand_is_told(text, declared, problem):
    assert read_invitation(text, declared).problems == (problem,)


def test_a_sound_one_has_no_problems_nor_has_a_file_without_a_method():
    assert read(SOUND).problems == ()
    assert read_invitation(calendar(method=""), attached=True).problems == ()


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", None),
        ("BEGIN:VEVENT\nSUMMARY:x\nEND:VEVENT\n", None),
        ("BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nEND:VTIMEZONE\nEND:VCALENDAR\n", None),
        ("\ufeff begin:vcalendar\nbegin:vevent\nsummary;language=de:Grüße\n", "Grüße"),
        (
            'junk\n: \n;\nBEGIN:VCALENDAR\nno colon\nBEGIN:VEVENT\nSUMMARY;X="open:y\nSUMMARY:z\nEND:VEVENT',
            "z",
        ),
        ("BEGIN:VCALENDAR\nEND:VEVENT\nBEGIN:VEVENT\nSUMMARY:x\n", None),
        (
            "BEGIN:VCALENDAR\n" + "BEGIN:X\n" * 50 + "END:X\n" * 50 + "BEGIN:VEVENT\nSUMMARY:x\nEND:VEVENT\n",
            "x",
        ),
        (calendar("SUMMARY:\u202egnp\x07\n"), "\ufffdgnp\ufffd"),
        (calendar("SUMMARY:" + "x" * 9000 + "\n"), "x" * 500 + "…"),
        (calendar("SUMMARY:x\nDUE:20261203T130000Z\n", kind="VTODO"), "x"),
    ],
)
def test_a_broken_calendar_is_read_as_far_as_it_can_be(text, summary):
    event = read_invitation(text)
    assert (event.summary if event else None) == summary


def test_there_may_be_several_events_and_many_guests():
    twice = calendar(SOUND + "".join(f"ATTENDEE:mailto:{n}@example.com\n" for n in range(300)))
    twice = twice.replace("END:VCALENDAR", "BEGIN:VEVENT\nSUMMARY:b\nEND:VEVENT\nEND:VCALENDAR")
    event = read_invitation(twice)
    assert (event.others, len(event.attendees), event.attendees[-1].address) == (1, 200, "199@example.com")


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN:VCALENDAR\n" * 100_000,
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY" + ";a=b" * 100_000 + ":x",
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nX" + ';a="' * 100_000,
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:" + "\n " * 200_000,
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\n" + "RRULE:" + "FREQ=DAILY;" * 50_000,
        calendar(SOUND.replace(":2026", ";TZID=Z:2026"), zones="BEGIN:VTIMEZONE\nTZID:Z\n" + BERLIN * 2000),
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\n" + "DESCRIPTION:" + "\\" * 500_000,
    ],
)
def test_time_is_bounded(within_yardsticks, text):
    with within_yardsticks(50):
        read_invitation(text)


@given(st.text(alphabet='BEGIN:VCALRTDSU;="\\\n TZ0129,-+PMH', max_size=200))
def test_nothing_raises(noise):
    read_invitation(
        f"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:{noise}\nDURATION:{noise}\nRRULE:{noise}\n{noise}"
    )
    read_invitation(
        calendar(f"DTSTART;TZID=Z:99991231T000000\n{noise}\n", zones=f"BEGIN:VTIMEZONE\nTZID:Z\n{noise}\n")
    )


@pytest.mark.parametrize("kind", ["text/calendar; method=REQUEST", "application/ics", "TEXT/Calendar"])
def test_the_first_calendar_part_of_the_message_counts(kind):
    text = calendar().replace("\n", "\r\n")
    nested = f"Content-Type: message/rfc822\r\n\r\nContent-Type: text/calendar\r\n\r\n{text}"
    parts = [nested, f"Content-Type: {kind}\r\n\r\n{text}", f"Content-Type: text/calendar\r\n\r\n{text}x"]
    body = "".join(f"--b\r\n{part}\r\n" for part in parts)
    head = "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    event = view_message(f"{head}{body}--b--\r\n".encode()).invitation
    assert (event.summary, event.start.local) == ("Plan", datetime(2026, 12, 3, 13))  # noqa: DTZ001
    assert view_message(b"Subject: x\r\n\r\nBEGIN:VCALENDAR\r\n").invitation is None
