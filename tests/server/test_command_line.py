"""Commands are known in two places, which agree: by their verbs, and by what is done for them."""

from gatepost.server import command_line, session


def test_each_known_verb_has_one_handler_and_each_handler_a_known_verb():
    of_mail, others = set(session._MAIL_COMMANDS), set(session._COMMANDS)
    assert of_mail | others == command_line._VERBS
    assert not of_mail & others
