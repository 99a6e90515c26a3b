"""A milter that answers as a test wants."""

import contextlib
import socket
import struct
import threading

ALL_ACTIONS, NO_STEPS = 0x1FF, 0


def packet(letter, data=b""):
    return struct.pack("!I", len(data) + 1) + letter + data


class ScriptedMilter:
    """Listens on loopback; each connection is a thread."""

    def __init__(self):
        self.answers = {}
        """By the letter of a command: bytes to send, a list of them for one time each, or None to close."""
        self.actions, self.steps, self.lists = ALL_ACTIONS, NO_STEPS, b""
        self.told = []
        """For each connection, the packets that came."""
        self.ended = []
        """For each connection, an event: it is over."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def commands(self, connection=-1):
        """The letters of the commands of a connection, when it is over; without macros and the last QUIT."""
        assert self.ended[connection].wait(60)
        letters = b"".join(letter for letter, _ in self.told[connection] if letter != b"D")
        return letters.decode().removesuffix("Q")

    def data(self, letter, connection=-1):
        return [data for one, data in self.told[connection] if one == letter]

    def _accept(self):
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            told, ended = [], threading.Event()
            self.told.append(told)
            self.ended.append(ended)
            threading.Thread(target=self._serve, args=(wire, told, ended), daemon=True).start()

    def _serve(self, wire, told, ended):
        with wire, wire.makefile("rb") as incoming, contextlib.ExitStack() as at_end:
            at_end.callback(ended.set)
            at_end.enter_context(contextlib.suppress(ConnectionError))
            while len(length := incoming.read(4)) == 4:
                content = incoming.read(int.from_bytes(length))
                letter = content[:1]
                told.append((letter, content[1:]))
                answer = self._answer(letter)
                if answer is None:
                    return
                try:
                    wire.sendall(answer)
                except OSError:
                    return

    def _answer(self, letter):
        if letter in self.answers:
            answer = self.answers[letter]
            return (answer.pop(0) if answer else packet(b"c")) if isinstance(answer, list) else answer
        if letter == b"O":
            return packet(b"O", struct.pack("!III", 6, self.actions, self.steps) + self.lists)
        return b"" if letter in b"DAQ" else packet(b"c")
