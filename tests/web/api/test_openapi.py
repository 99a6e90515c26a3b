"""The OpenAPI document says what the API does."""

import json
import re

import pytest
from gatepost.model.learnt import Learnt
from gatepost.store import Box
from gatepost.web.api import OPERATIONS, routes
from starlette.routing import Mount, Route

DOCUMENT = "/api/openapi.json"
_TYPES = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}


def faults(value, schema, document, where="$"):
    """What of a value the schema does not allow, or does not tell of."""
    if "$ref" in schema:
        target = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return faults(value, target, document, where)
    if "anyOf" in schema:
        found = [faults(value, choice, document, where) for choice in schema["anyOf"]]
        return [] if [] in found else [fault for one in found for fault in one]
    kind = _TYPES[schema["type"]] if "type" in schema else object
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and "type" in schema):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return [f"{where}: {value!r} is none of {schema}"]
    if isinstance(value, list):
        items = schema.get("items", {})
        return [f for n, one in enumerate(value) for f in faults(one, items, document, f"{where}.{n}")]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        other = schema.get("additionalProperties")
        missing = [f"{where}: no {name}" for name in schema.get("required", []) if name not in value]
        unknown = [f"{where}: {name} is unknown" for name in value if name not in known and other is None]
        return [
            *missing,
            *unknown,
            *(
                fault
                for name, one in value.items()
                for fault in faults(one, known.get(name, other or {}), document, f"{where}.{name}")
            ),
        ]
    return []


@pytest.fixture
async def document(http):
    answer = await http.get(DOCUMENT)
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_every_operation_has_a_route_and_every_route_an_operation():
    (mount,) = [route for route in routes if isinstance(route, Mount)]
    routed = {route.path for route in mount.routes if isinstance(route, Route)}
    assert routed - {"/", "/openapi.json", "/{rest:path}"} == {f"/v1{one.path}" for one in OPERATIONS}


async def test_the_document_holds_every_operation_with_its_parameters(document):
    assert document["openapi"].startswith("3.1.")
    described = {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert len(described) == len(OPERATIONS)
    assert len({operation["operationId"] for operation in described.values()}) == len(OPERATIONS)
    for operation in OPERATIONS:
        path = f"/api/v1{operation.path}".replace(":int", "")
        one = described[operation.method, path]
        named = {
            name
            for parameter in one.get("parameters", [])
            for name in parameter["schema"].get("properties", [parameter["name"]])
        }
        assert named == {*re.findall(r"{(\w+)}", path), *operation.parameters.model_fields}
        for parameter in one.get("parameters", []):
            assert parameter["in"] == "path" or "description" in parameter or parameter["name"], parameter
        assert one["responses"]["200"]["description"]


async def test_every_link_leads_to_an_operation_and_from_a_member_to_a_parameter(document):
    operations = {one["operationId"]: one for item in document["paths"].values() for one in item.values()}
    for name, operation in operations.items():
        for link in operation["responses"]["200"].get("links", {}).values():
            target = {parameter["name"] for parameter in operations[link["operationId"]]["parameters"]}
            assert link["parameters"].keys() <= target, (name, link)
            (content,) = operation["responses"]["200"]["content"].values()
            for expression in link["parameters"].values():
                schema = content["schema"]
                for part in expression.removeprefix("$response.body#/").split("/"):
                    schema = next(iter(schema.get("anyOf", [schema])))
                    if "$ref" in schema:
                        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                    schema = schema["items"] if part == "0" else schema["properties"][part]


async def test_every_operation_on_one_thing_is_linked_from_another(document):
    linked = {
        link["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        for link in operation["responses"]["200"].get("links", {}).values()
    }
    needed = {one.name for one in OPERATIONS if "{" in one.path}
    assert needed <= linked, "add a Link to an operation whose response has the id"


async def test_every_reference_leads_somewhere_and_every_schema_is_used(document):
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references == set(document["components"]["schemas"])


@pytest.mark.usefixtures("importing", "lists")
async def test_every_answer_is_as_the_document_says(http, keep, document, learning):
    learning(Learnt(rule="r", succeeded=True, text=""))
    parts = {"html": "<p>x</p>", "attachments": {"a.pdf": b"%PDF"}}
    held = [await keep(box=Box.QUARANTINE, spoken=True, **parts) for _ in range(5)]
    read = (await http.get(f"/api/v1/messages/{held[0]}")).json()
    number = read["attachments"][0]["number"]
    ids = {"Journal": read["transaction_id"], "Conversations": read["record"]["session_id"]}
    given = {
        "deleteMessages": {"params": {"id": held[1]}},
        "markMessages": {"json": {"ids": held}},
        "releaseMessage": {"json": {}},
        "forwardMessage": {"json": {"to": ["a@example.com"]}},
        "learnMessage": {"json": {"kind": "ham"}},
        "changeList": {"json": {"do": "block", "entry": "a@example.com"}},
        "waitForMessages": {"params": {"count": "2"}},
        "importMessages": {
            "content": b"From x Mon Nov 30 08:00:00 2026\na: b\n\nFrom x Mon Nov 30 08:00:00 2026\n",
            "headers": {"content-type": "application/mbox"},
        },
    }
    kept = {"deleteMessage": held[2], "releaseMessage": held[3], "deleteQuarantined": held[4]}
    for operation in OPERATIONS:
        if operation.group == "Breakpoints":  # test_holds.py has a session that is held
            continue
        described = document["paths"][f"/api/v1{operation.path}".replace(":int", "")]
        described = described[operation.method.lower()]
        one = ids.get(operation.group) or kept.get(operation.name, held[0])
        url = f"/api/v1{operation.path}".replace("{id}", one).replace("{number:int}", str(number))
        answer = await http.request(operation.method, url, **given.get(operation.name, {}))
        assert answer.status_code == 200, (operation, answer.text)
        content = described["responses"][str(answer.status_code)]["content"]
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in content
        if media_type.endswith("json"):
            schema = content[media_type]["schema"]
            assert faults(answer.json(), schema, document) == [], operation.name


INVITATION = b"""\
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/html

<form></form><svg></svg><p>Hi
--b
Content-Type: text/calendar; method=REQUEST

BEGIN:VCALENDAR
METHOD:REQUEST
BEGIN:VEVENT
DTSTART:20261203T130000Z
DTEND;VALUE=DATE:20261204
SUMMARY:Plan
ORGANIZER;CN=Ann:mailto:ann@example.com
ATTENDEE;PARTSTAT=ACCEPTED:mailto:bob@example.com
END:VEVENT
END:VCALENDAR
--b--
"""
REPORT = b"""\
Content-Type: multipart/report; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.1.1
--b--
"""


@pytest.mark.parametrize(
    ("content", "field", "expected"),
    [
        (INVITATION, "removed", [{"element": "form", "count": 1}, {"element": "svg", "count": 1}]),
        (INVITATION, "invitation.summary", "Plan"),
        (
            INVITATION,
            "invitation.start",
            {"local": "2026-12-03T13:00:00", "time_zone": "UTC", "utc": "2026-12-03T13:00:00Z"},
        ),
        (INVITATION, "invitation.end", {"local": "2026-12-04", "time_zone": "", "utc": None}),
        (INVITATION, "invitation.attendees.0.status", "accepted"),
        (INVITATION, "report", None),
        (REPORT, "invitation", None),
        (REPORT, "report.recipients.0.meaning", "Not delivered: there is no such mailbox"),
        (REPORT, "report.fields.0", {"name": "Reporting-MTA", "value": "dns; mx.example.com"}),
        (REPORT, "no_text.reason", "attachments"),
    ],
)
async def test_what_only_some_messages_have_is_as_the_document_says(
    http, keep, document, content, field, expected
):
    read = (await http.get(f"/api/v1/messages/{await keep(content=content)}")).json()
    schema = {"$ref": "#/components/schemas/Message"}
    assert faults(read, schema, document) == []
    for name in field.split("."):
        read = read[int(name) if name.isdecimal() else name]
    assert read == expected


@pytest.mark.parametrize(
    ("url", "path", "status"),
    [
        ("/wait?timeout=0", "/wait", "504"),
        ("/wait?timeout=x", "/wait", "400"),
        ("/messages/0", "/messages/{id}", "404"),
    ],
)
async def test_every_problem_is_as_the_document_says(http, document, url, path, status):
    answer = await http.get(f"/api/v1{url}")
    assert str(answer.status_code) == status
    content = document["paths"][f"/api/v1{path}"]["get"]["responses"][status]["content"]
    schema = content[answer.headers["content-type"]]["schema"]
    assert faults(answer.json(), schema, document) == []


@pytest.mark.usefixtures("importing")
async def test_what_the_document_shows_as_a_file_is_imported(http, document):
    files = document["paths"]["/api/v1/messages"]["post"]["requestBody"]["content"]
    for kind, described in files.items():
        content = described["example"].encode()
        answer = await http.post("/api/v1/messages", content=content, headers={"content-type": kind})
        assert (answer.status_code, len(answer.json()["messages"])) == (200, 1)
    read = (await http.get("/api/v1/messages/latest")).json()
    assert (read["subject"], read["recipients"]) == ("Your code", ["bob@example.com"])


async def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(http, document):
    page = await http.get("/api/")
    assert page.status_code == 200
    for operation in OPERATIONS:
        assert operation.name in page.text
        assert operation.summary in page.text
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in page.text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page.text)
    assert (await http.get("/api")).headers["location"] == "/api/"


async def test_the_webhook_is_described(document, http, keep):
    await keep()
    (item,) = document["webhooks"].values()
    described = item["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    (sent,) = (await http.get("/api/v1/messages")).json()["messages"]
    assert schema == {"$ref": "#/components/schemas/MessageSummary"}
    assert faults(sent, schema, document) == []
    required = {one["name"]: one["required"] for one in described["parameters"]}
    assert required == {"webhook-id": True, "webhook-timestamp": True, "webhook-signature": False}
