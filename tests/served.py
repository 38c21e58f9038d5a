"""A subject behind the protocol, without a process of its own."""

from parity.subjects.command import Command
from parity.subjects.messages import decoded, encoded
from parity.subjects.server import Server


class Served(Command):
    """A command whose messages a server in this process answers, as JSON that went both ways."""

    def __init__(self, name: str) -> None:
        super().__init__([name])
        self.server = Server(name)

    def ask(self, message, answer, doing):
        return decoded(encoded(self.server.answer(decoded(encoded(message)))))
