"""AUTH on the wire, and the file of users."""

import asyncio
from base64 import b64encode

import pytest
from argon2 import PasswordHasher
from gatepost.server.auth import Users, hash_password, without_secrets
from gatepost.server.wire import Wire

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes take a thousandth of the time here: what is tested is what is said, not how long a guess takes."""


@pytest.fixture(scope="session")
def users(tmp_path_factory):
    file = tmp_path_factory.mktemp("auth") / "users.yaml"
    file.write_text(f'alice: "{CHEAP.hash("wonder land")}"\n"bjørn": "{CHEAP.hash("")}"\n')
    return file


@pytest.fixture
async def mx(start, users):
    return await start(listener={"auth": {"users": users, "required": True, "without_tls": True}})


def plain(name, password, authorization=""):
    return b64encode(f"{authorization}\0{name}\0{password}".encode()).decode()


def base64(text):
    return b64encode(text.encode()).decode()


GOOD = plain("alice", "wonder land")


@pytest.mark.parametrize(
    "dialogue",
    [
        pytest.param(f"C: AUTH PLAIN {GOOD}", id="PLAIN, initial response"),
        pytest.param(f"C: auth plain {GOOD}", id="52 lower case"),
        pytest.param(f"C: AUTH PLAIN\nS: 334\nC: {GOOD}", id="PLAIN"),
        pytest.param(f"C: AUTH PLAIN {plain('alice', 'wonder land', 'alice')}", id="PLAIN as oneself"),
        pytest.param(
            f"C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: {base64('alice')}\n"
            f"S: 334 UGFzc3dvcmQ6\nC: {base64('wonder land')}",
            id="LOGIN",
        ),
        pytest.param(
            f"C: AUTH login {base64('alice')}\nS: 334 UGFzc3dvcmQ6\nC: {base64('wonder land')}",
            id="LOGIN, initial response",
        ),
    ],
)
async def test_the_right_password_authenticates_once(mx, dialogue):
    """RELIABILITY 52, 53."""
    client = await mx.ready()
    await client.talk(f"""
        C: MAIL FROM:<a@b>
        S: 530 5.7.0
        {dialogue}
        S: 235 2.7.0
        C: AUTH PLAIN {GOOD}
        S: 503 5.5.1
        C: MAIL FROM:<a@b> AUTH=<>
        S: 250
        C: AUTH PLAIN {GOOD}
        S: 503 5.5.1
    """)
    assert mx.script.sessions[-1].authenticated == "alice"
    assert mx.script.sessions[-1].protocol == "ESMTPA"


async def test_a_second_ehlo_leaves_who_is_authenticated(mx):
    client = await mx.ready()
    await client.talk(f"""
        C: AUTH PLAIN {GOOD}
        S: 235 2.7.0
        C: EHLO again.example.org
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
    """)
    assert mx.script.sessions[-1].authenticated == "alice"
    assert mx.script.sessions[-1].helo == "again.example.org"


async def test_auth_is_refused_in_a_transaction(start, users):
    """RELIABILITY 53."""
    mx = await start(listener={"auth": {"users": users, "without_tls": True}})
    client = await mx.in_transaction()
    await client.talk(f"""
        C: AUTH PLAIN {GOOD}
        S: 503 5.5.1
    """)


@pytest.mark.parametrize(
    ("dialogue", "reply"),
    [
        (f"C: AUTH PLAIN {plain('alice', 'wrong')}", "535 5.7.8"),
        (f"C: AUTH PLAIN {plain('nobody', 'wonder land')}", "535 5.7.8"),
        (f"C: AUTH PLAIN {plain('nobody', '')}", "535 5.7.8"),
        (f"C: AUTH PLAIN {plain('', '')}", "535 5.7.8"),
        (f"C: AUTH PLAIN {plain('alice', 'wonder land', 'bob')}", "535 5.7.8"),
        (f"C: AUTH LOGIN\nS: 334\nC: {base64('alice')}\nS: 334\nC: =", "535 5.7.8"),
        ("C: AUTH LOGIN =\nS: 334\nC: =", "535 5.7.8"),
        ("C: AUTH PLAIN =", "501 5.5.2"),
        ("C: AUTH PLAIN ???", "501 5.5.2"),
        ("C: AUTH PLAIN AGE", "501 5.5.2"),
        ("C: AUTH PLAIN /////w==", "501 5.5.2"),
        (f"C: AUTH PLAIN {GOOD} {GOOD}", "501 5.5.2"),
        ("C: AUTH PLAIN *", "501 5.7.0"),
        ("C: AUTH PLAIN\nS: 334\nC: *", "501 5.7.0"),
        ("C: AUTH LOGIN\nS: 334\nC: QQ==\nS: 334\nC: *", "501 5.7.0"),
        (f"C: AUTH PLAIN\nS: 334\nC: {'A' * 12_288}", "501 5.5.2"),
        (f"C: AUTH PLAIN\nS: 334\nC: {'A' * 12_289}", "500 5.5.6"),
        ("C: AUTH CRAM-MD5", "504 5.5.4"),
        ("C: AUTH", "504 5.5.4"),
    ],
)
async def test_what_does_not_authenticate(mx, dialogue, reply):
    """RELIABILITY 52."""
    client = await mx.ready()
    await client.talk(f"""
        {dialogue}
        S: {reply}
        C: NOOP
        S: 250
        C: MAIL FROM:<a@b>
        S: 530 5.7.0
    """)


async def test_the_gateway_is_told_which_user_failed(mx):
    client = await mx.ready()
    await client.talk(f"""
        C: AUTH PLAIN {plain("alice", "wrong")}
        S: 535 5.7.8
        C: AUTH PLAIN {plain("alice", "wonder land", "bob")}
        S: 535 5.7.8
        C: AUTH LOGIN =
        S: 334
        C: =
        S: 535 5.7.8
    """)
    assert mx.script.auth_failed == [("alice", 535), ("alice", 535), ("", 535)]


async def test_an_exchange_that_is_no_login_is_no_failed_login(mx):
    client = await mx.ready()
    await client.talk(f"""
        C: AUTH PLAIN *
        S: 501 5.7.0
        C: AUTH CRAM-MD5
        S: 504 5.5.4
        C: AUTH PLAIN {GOOD}
        S: 235
    """)
    assert mx.script.auth_failed == []


async def test_repeated_failures_end_the_session(mx):
    """RELIABILITY 54."""
    client = await mx.ready()
    await client.talk(
        f"C: AUTH PLAIN {plain('alice', 'wrong')}\nS: 535 5.7.8\n" * 3
        + f"C: AUTH PLAIN {GOOD}\nS: 421 4.7.0\nS: closed"
    )


@pytest.mark.parametrize("dialogue", ["C: AUTH PLAIN\nS: 334", "C: AUTH LOGIN\nS: 334\nC: QQ==\nS: 334"])
@pytest.mark.parametrize("octets", ["", "QQ"], ids=["silent", "half"])
async def test_an_exchange_that_stalls_ends_by_the_time_of_a_command(start, users, dialogue, octets):
    mx = await start(listener={"auth": {"users": users, "without_tls": True}}, limits={"command_time": 0.2})
    client = await mx.ready()
    await client.talk(dialogue)
    await client.send(octets.encode())
    assert [reply[:9] for reply in await client.replies()] == ["421 4.4.2"]


@pytest.mark.parametrize("tolerance", ["strict", "everything"])
async def test_an_exchange_has_the_time_of_a_command_from_its_beginning(start, users, tolerance, monkeypatch):
    mx = await start(listener={"auth": {"users": users, "without_tls": True}}, tolerance=tolerance)
    client = await mx.ready()
    [session] = mx.server._sessions
    session._command_deadline = asyncio.get_running_loop().time() + 1  # it has thought for long
    deadlines, read_line = [], Wire.read_line

    async def watched(wire, limit, deadline, **options):
        deadlines.append(deadline)
        return await read_line(wire, limit, deadline, **options)

    monkeypatch.setattr(Wire, "read_line", watched)
    await client.talk("""
        C: AUTH LOGIN
        S: 334
        C: QQ==
        S: 334
    """)
    assert deadlines[0] == deadlines[1] > asyncio.get_running_loop().time() + 100


async def test_auth_needs_tls_unless_the_operator_says_so(start, users):
    """RELIABILITY 51."""
    mx = await start(listener={"auth": {"users": users}})
    client = await mx.greeted()
    await client.talk(f"""
        C: AUTH PLAIN {GOOD}
        S: 503 5.5.1
    """)
    await client.send(b"EHLO c\r\n")
    assert "AUTH" not in (await client.reply())
    await client.talk(f"""
        C: AUTH PLAIN {GOOD}
        S: 538 5.7.11
        C: MAIL FROM:<a@b> AUTH=<>
        S: 250
    """)


async def test_any_user_may_be_taken(start):
    mx = await start(listener={"auth": {"users": "any", "without_tls": True}})
    client = await mx.ready()
    await client.talk(f"""
        C: AUTH PLAIN {plain("whoever", "whatever")}
        S: 235
    """)


async def test_the_tap_never_sees_a_secret(start, users):
    seen = []
    mx = await start(
        listener={"auth": {"users": users, "without_tls": True}},
        tap=lambda event: seen.append(event.direction + " " + event.data.decode()),
    )
    client = await mx.ready()
    await client.talk(f"""
        C: AUTH LOGIN
        S: 334
        C: {base64("alice")}
        S: 334
        C: {base64("wrong")}
        S: 535
        C: AUTH PLAIN {GOOD}
        S: 235
    """)
    text = "".join(seen)
    assert text.count("C ********\r\n") == 2
    assert "C AUTH PLAIN ********\r\n" in text
    assert not any(secret in text for secret in (base64("alice"), base64("wrong"), GOOD))


@pytest.mark.parametrize(
    "content",
    ["", "- alice", "alice: secret", "alice:", "alice: 1", '1: "HASH"', "alice: [", "alice: {a: b}", "\0"],
)
@pytest.mark.long
def test_a_wrong_file_of_users_is_named_with_what_is_expected(tmp_path, content):
    file = tmp_path / "users.yaml"
    file.write_text(content.replace("HASH", hash_password("x")))
    with pytest.raises(ValueError, match=rf"{file}: expected lines like  alice: "):
        Users.load(file)


async def test_an_empty_password_can_be_one(users):
    some = Users.load(users)
    assert await some.check("bjørn", "")
    assert not await some.check("bjørn", "x")
    some.close()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n", b"AUTH PLAIN ********\r\n"),
        (b"auth login am9l\r\n", b"auth login ********\r\n"),
        (b"AUTH LOGIN\r\n", b"AUTH LOGIN\r\n"),
        (b"AUTH AGpvZQBzZWNyZXQ=\r\n", b"AUTH ********\r\n"),
        (b"AUTH XOAUTH2 secret of many words\r\n", b"AUTH XOAUTH2 ********\r\n"),
        (b" AUTH\tXOAUTH3 secret of many words\r\n", b"AUTH ******** ********\r\n"),
        (b"AUTH\r\n", b"AUTH\r\n"),
        (b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<a@b>\r\n"),
        (b"\r\n", b"\r\n"),
    ],
)
def test_what_is_shown_of_a_command_holds_no_secret(line, shown):
    assert without_secrets(line) == shown
