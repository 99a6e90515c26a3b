"""Clients, filters, servers behind, store faults, reloads, restarts and kills, in any order.

Whatever the order, the promise holds: what was answered 250 is upstream, in quarantine, in the inbox
or in the journal as discarded, for each of its recipients, for nobody else, with the content that it
had, and once.
GATEPOST_STEPS=100000 plays longer; what fails is shrunk and printed as a program.
"""

import asyncio
import os
import signal

import pytest
from gatepost.testing.upstream import Close, Reset, Stall, Usual
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

CLIENTS = st.integers(0, 2)
NAMES = (
    "ann",
    "bob",
    "tag",
    "quarantine",
    "discard",
    "reject",
    "defer",
    "raise",
    "hang",
    "quarantine-early",
    "discard-early",
    "refuse-early",
)
"""Each but the first two has a rule of its own."""
RECIPIENTS = st.one_of(
    st.sampled_from([f"{name}@example.com" for name in NAMES]),
    st.sampled_from(
        ["ann@inbox.example", "quarantine@inbox.example", "ann@discard.example", "ann@nowhere.example"]
    ),
)
LINES = st.sampled_from([1, 0, 30, 1200, 3600])
"""Up to more than is written at once, to more than the memory for three."""
STEPS = st.sampled_from(["dot", "rcpt", "mail", "data", "body", "rset", "connect", "ehlo", "quit"])
BEHAVIOURS = {
    "not now": "451 4.3.0 Not now",
    "no": "550 5.7.1 No",
    "closing": ["421 4.3.2 Closing", Close()],
    "close": Close(),
    "reset": Reset(),
    "late": [Stall(0.4), Usual()],
    "late and closed": [Stall(0.4), Close()],
    "nonsense": b"\0\xff\r\n",
    "one reply too many": [Usual(), b"250 one too many\r\n"],
}


class AnyOrder(RuleBasedStateMachine):
    """One step is one thing that somebody does; nothing waits for what another one does next."""

    def __init__(self, play, make_gateway):
        super().__init__()
        self.play = play
        self.messages = []
        self.clients = {}
        self.unwritten = set()
        self.servers = [play.server() for _ in range(2)]
        for server in self.servers:
            server.server.__enter__()
        self.gateway = make_gateway(self.servers)

    # Clients

    def client(self, who, *states):
        """The client, if it is in one of these states; a new one where there is none and it may be idle."""
        if who not in self.clients and "idle" in states:
            self.clients[who] = self.play.client(self.gateway.port)
        client = self.clients.get(who)
        return client if client and client.state in states else None

    @rule(who=CLIENTS, recipients=st.lists(RECIPIENTS, min_size=1, max_size=4, unique=True), lines=LINES)
    def envelope(self, who, recipients, lines):
        if client := self.client(who, "idle"):
            message = self.play.message(len(self.messages), lines)
            self.messages.append(message)
            message.begun = client.say(f"MAIL FROM:<{message.token}@example.org>").startswith("250")
            for recipient in recipients if message.begun else ():
                if client.say(f"RCPT TO:<{recipient}>").startswith("250"):
                    message.recipients.append(recipient)
            if message.recipients:
                client.state, client.message = "envelope", message
            else:
                client.say("RSET")

    @rule(who=CLIENTS)
    def half_of_the_message(self, who):
        if client := self.client(who, "envelope"):
            if client.say("DATA").startswith("354"):
                client.send(client.message.wire[: len(client.message.wire) // 2])
                client.state = "data"
            else:
                client.say("RSET")
                client.state = "idle"

    @rule(who=CLIENTS)
    def dot(self, who):
        if self.client(who, "envelope"):
            self.half_of_the_message(who)
        if client := self.client(who, "data"):
            self.ends(client, client.message.wire[len(client.message.wire) // 2 :])

    @rule(who=CLIENTS)
    def first_chunk(self, who):
        if client := self.client(who, "envelope"):
            half = client.message.content[: len(client.message.content) // 2]
            client.send(b"BDAT %d\r\n%b" % (len(half), half))
            client.state = "chunks" if client.reply().startswith("250") else "idle"
            if client.state == "idle":
                client.say("RSET")

    @rule(who=CLIENTS)
    def last_chunk(self, who):
        if client := self.client(who, "chunks"):
            half = client.message.content[len(client.message.content) // 2 :]
            self.ends(client, b"BDAT %d LAST\r\n%b" % (len(half), half))

    def ends(self, client, octets):
        client.message.ended = True
        if self.gateway.faulty:
            client.message.disturbed.add("store")
        client.send(octets)
        client.state = "answer"

    @rule(who=CLIENTS)
    def hear(self, who):
        """One answer to the message, and nothing behind it."""
        if client := self.client(who, "answer"):
            message = client.message
            message.answer = client.reply()
            client.state = "idle"
            assert message.answer or message.disturbed & {"killed", "restarted"}, (
                f"{message.token}: no answer"
            )
            if message.answer and not message.answer.startswith("421"):
                next_reply = client.say("VRFY somebody")
                assert next_reply[:3] in ("252", "421", ""), (
                    f"{message.token}: a second answer {next_reply!r}"
                )
                self.look_at(message)

    @rule(who=CLIENTS)
    def rset(self, who):
        if client := self.client(who, "idle", "envelope", "chunks"):
            reply = client.say("RSET")
            client.state = "idle"
            assert reply[:3] in ("250", "421", ""), reply

    @rule(who=CLIENTS, how=st.sampled_from(["QUIT", "close", "reset", "half-close"]))
    def leave(self, who, how):
        if client := self.client(who, "idle", "envelope", "data", "chunks", "answer"):
            if how == "half-close":
                client.half_close()
                self.hear(who)
                while client.reply():
                    pass
            elif how == "QUIT" and client.state != "data":
                self.hear(who)
                assert client.say("QUIT")[:3] in ("221", "421", "")
                assert client.reply() == ""
            client.close(reset=how == "reset")
            del self.clients[who]

    # What is behind the gateway, and the gateway itself

    @rule(
        server=st.integers(0, 1),
        step=STEPS,
        behaviour=st.sampled_from(list(BEHAVIOURS)),
        when_used_again=st.booleans(),
    )
    def misbehaves(self, server, step, behaviour, when_used_again):
        self.servers[server].plan[step, when_used_again] = BEHAVIOURS[behaviour]

    @rule(
        mixed=st.sampled_from(["quarantine", "defer", "reject"]),
        on_error=st.sampled_from(["defer", "skip", "quarantine"]),
    )
    def reload(self, mixed, on_error):
        self.gateway.reload(mixed, on_error)

    @precondition(lambda self: not self.gateway.can_be_killed)
    @rule(fault=st.integers(0, 1))
    def fault(self, fault):
        getattr(self.gateway, self.gateway.faults[fault])()
        self.disturb("store")

    @precondition(lambda self: self.gateway.database)
    @rule()
    def restart_database(self):
        self.gateway.restart_database()
        self.disturb("store")

    @rule()
    def mend(self):
        self.gateway.mend_store()

    @rule(grace_seconds=st.sampled_from([0.0, 0.05]))
    def restart(self, grace_seconds):
        self.disturb("restarted")
        faulty = self.gateway.faulty
        self.gateway.stop(grace_seconds)
        if faulty:
            self.gateway.mend_store()
            self.nothing_more_is_written()
        self.goes_on_anew()

    @precondition(lambda self: self.gateway.can_be_killed)
    @rule()
    def kill(self):
        self.disturb("killed")
        self.gateway.stop(number=signal.SIGKILL)
        self.gateway.mend_store()
        self.nothing_more_is_written()
        self.goes_on_anew()

    def disturb(self, by):
        for message in self.messages:
            if message.is_open:
                message.disturbed.add(by)

    def nothing_more_is_written(self):
        """What the journal does not have by now, it never will."""
        written = self.gateway.journal()
        self.unwritten |= {message.token for message in self.messages if message.token not in written}

    def goes_on_anew(self):
        """What the clients can still hear they hear, then they are gone; another gateway starts."""
        for who in list(self.clients):
            self.leave(who, "close" if self.clients[who].state != "answer" else "half-close")
        self.gateway.start()

    # What must hold

    def copies(self):
        return [*self.gateway.kept(), *(copy for server in self.servers for copy in server.copies)]

    def look_at(self, message):
        """What is acknowledged has its owner now, not later."""
        if message.answer.startswith("250") and not self.gateway.is_down:
            copies = [copy for token, copy in self.copies() if token == message.token]
            held = {recipient for copy in copies if copy.certain for recipient in copy.recipients}
            if missing := set(message.recipients) - held:
                record = self.gateway.journal().get(message.token)
                self.play.check(message, copies, record, is_last_word=False)
                assert all("discard" in recipient for recipient in missing), missing

    def teardown(self):
        try:
            self.all_is_well()
        finally:
            for client in self.clients.values():
                client.close()
            self.gateway.close()
            for server in self.servers:
                server.server.__exit__()

    def all_is_well(self):
        self.gateway.mend_store()
        for server in self.servers:
            server.plan.clear()
            server.server.release.set()
        for who in list(self.clients):
            self.leave(who, "QUIT")
        unrest = self.gateway.unrest
        self.play.wait_until(lambda: not unrest(), "everything is as at the beginning", unrest)
        self.gateway.stop()
        for server in self.servers:
            closed = server.server.wait_until(lambda one: not one.open_connections)
            assert closed, "a connection to the server behind is left"
        journal, copies = self.gateway.journal(), self.copies()
        for message in self.messages:
            record = journal.get(message.token)
            assert record or not message.begun or message.token in self.unwritten, (
                f"{message.token}: no record"
            )
            self.play.check(message, [copy for token, copy in copies if token == message.token], record)
        self.gateway.start()


def run_part(part, make_machine, *, steps, length):
    """Play some steps: other ones in each part, even with a profile that makes them the same each time."""
    chosen = settings(
        max_examples=max(steps // length, 1),
        stateful_step_count=length,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    )
    machine = seed(part)(make_machine) if chosen.derandomize else make_machine
    run_state_machine_as_test(machine, settings=chosen, _min_steps=length // 2)


def steps_of(parts, pytestconfig, *, full, less):
    """How many steps each part plays."""
    wanted = full if pytestconfig.getoption("--long") else less
    return int(os.environ.get("GATEPOST_STEPS", wanted)) // parts


@pytest.mark.parametrize("part", range(8))
@pytest.mark.long
def test_whatever_happens_in_any_order_nothing_is_lost(play, pytestconfig, part):
    steps = steps_of(8, pytestconfig, full=3200, less=400)
    run_part(part, lambda: AnyOrder(play, play.in_this_process), steps=steps, length=40)


@pytest.mark.case(109)
@pytest.mark.parametrize("part", range(3))
@pytest.mark.long
def test_whatever_happens_before_and_after_a_kill_nothing_is_lost(play, pytestconfig, part):
    steps = steps_of(3, pytestconfig, full=120, less=20)
    run_part(part, lambda: AnyOrder(play, play.in_its_own_process), steps=steps, length=20)


@pytest.mark.real("postgres")
@pytest.mark.parametrize("part", range(2))
@pytest.mark.long
def test_whatever_happens_to_a_store_on_a_server_nothing_is_lost(play, database, pytestconfig, part):
    """Also where PostgreSQL crashes and recovers in the midst of it."""
    steps = steps_of(2, pytestconfig, full=600, less=80)
    run_part(
        part,
        lambda: AnyOrder(play, lambda servers: play.in_this_process(servers, database)),
        steps=steps,
        length=40,
    )


@pytest.mark.real("postgres")
@pytest.mark.case(109)
@pytest.mark.long
def test_whatever_is_killed_the_gateway_or_its_database_nothing_is_lost(play, database, pytestconfig):
    steps = steps_of(1, pytestconfig, full=20, less=20)
    run_part(
        0,
        lambda: AnyOrder(play, lambda servers: play.in_its_own_process(servers, database)),
        steps=steps,
        length=20,
    )


def test_a_message_that_was_being_kept_when_the_gateway_stopped_waiting_is_in_doubt(play, monkeypatch):
    """Found by the machine: kept, but deferred in the journal."""
    server = play.server()
    with server.server:
        gateway = play.in_this_process([server])
        kept = asyncio.Event()
        commit = gateway.service.store.commit

        async def commit_and_never_say_so(*arguments):
            await commit(*arguments)
            kept.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(gateway.service.store, "commit", commit_and_never_say_so)
        client, message = play.client(gateway.port), play.message(0, 1)
        client.say(f"MAIL FROM:<{message.token}@example.org>")
        client.say("RCPT TO:<ann@inbox.example>")
        client.say("DATA")
        client.send(message.wire)
        play.wait_until(kept.is_set, "it is kept")
        gateway.stop(0.0)
        assert client.reply().startswith("421 4.3.2")
        assert [token for token, _ in gateway.kept()] == [message.token]
        (recipient,) = gateway.journal()[message.token].recipients
        assert recipient.disposition == "in-doubt"
        client.close()
        gateway.start()
        gateway.close()
