"""Values behave as frozen, slotted, keyword-only dataclasses do."""

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, field, fields, make_dataclass, replace

import pytest
from gatepost.model.mail import Envelope, Message
from gatepost.model.verdict import Reply
from gatepost.values import value


@value
class Sample:
    """What values may have: fields with and without defaults, and made ones."""

    first: int
    second: str = "two"
    third: list[int] = field(default_factory=list)
    fourth: dict[str, int] = field(default_factory=dict, init=False, compare=False)

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("negative")


def test_fields_have_what_was_given_and_their_defaults():
    sample = Sample(first=1)
    assert (sample.first, sample.second, sample.third, sample.fourth) == (1, "two", [], {})
    assert Sample(first=1, third=[3]).third == [3]
    assert Sample(first=1).third is not sample.third
    assert [one.name for one in fields(sample)] == ["first", "second", "third", "fourth"]


def test_fields_may_have_any_name():
    @value
    class Named:
        kind: str
        become: str = "b"
        make_kind: str = "m"

    made = Named(kind="k")
    assert (made.kind, made.become, made.make_kind, type(made)) == ("k", "b", "m", Named)


def test_nothing_can_be_set_or_added():
    sample = Sample(first=1)
    with pytest.raises(FrozenInstanceError):
        sample.first = 2
    with pytest.raises(FrozenInstanceError):
        del sample.first
    with pytest.raises((FrozenInstanceError, TypeError)):
        sample.fifth = 5
    assert type(sample) is Sample
    assert not hasattr(sample, "__dict__")


@pytest.mark.parametrize(
    ("positional", "named", "complaint"),
    [
        ((1,), {}, "positional"),
        ((), {}, "'first'"),
        ((), {"first": 1, "fifth": 5}, "'fifth'"),
        ((), {"first": 1, "fourth": {}}, "'fourth'"),
    ],
)
def test_wrong_arguments_are_named(positional, named, complaint):
    with pytest.raises(TypeError, match=complaint):
        Sample(*positional, **named)


def test_a_value_checks_itself():
    with pytest.raises(ValueError, match="negative"):
        Sample(first=-1)


def test_equal_values_are_equal_and_hash_alike():
    envelope = Envelope(mail_from="a@example.org")
    assert envelope == Envelope(mail_from="a@example.org")
    assert hash(envelope) == hash(Envelope(mail_from="a@example.org"))
    assert envelope != replace(envelope, mail_from="b@example.org")


@pytest.mark.parametrize("made", [Reply(code=250, text="Ok"), Message(content=b"x"), Sample(first=1)])
def test_values_are_copied_and_pickled(made):
    again = [copy.copy(made), copy.deepcopy(made)]
    if not isinstance(made, Sample):
        again.append(pickle.loads(pickle.dumps(made)))
    assert all(other == made and type(other) is type(made) for other in again)


def test_the_signature_says_what_may_be_given():
    assert str(inspect.signature(Sample)).startswith("(*, first: int, second: str = 'two', third: list[int]")


def test_what_a_value_says_of_itself_is_what_a_dataclass_says():
    plain = make_dataclass("Sample", ["first", "second"], frozen=True)
    assert repr(Sample(first=1)) == "Sample(first=1, second='two', third=[], fourth={})"
    assert repr(plain(1, "two")) == "Sample(first=1, second='two')"
    around = Sample(first=1)
    around.third.append(around)
    assert repr(around) == "Sample(first=1, second='two', third=[...], fourth={})"


def test_fields_that_are_not_compared_change_neither_equality_nor_hash():
    @value
    class Named:
        name: str
        label: str = field(default="", compare=False)

    assert Named(name="a", label="b") == Named(name="a")
    assert hash(Named(name="a", label="b")) == hash(Named(name="a"))
    assert Named(name="a") != Named(name="b")
    assert Named(name="a") != "a"


def test_a_value_has_the_methods_that_it_writes_itself():
    @value
    class Folded:
        name: str

        def __eq__(self, other):
            return self.name.lower() == other.name.lower()

        def __hash__(self):
            return hash(self.name.lower())

        def __repr__(self):
            return self.name

    assert Folded(name="a") == Folded(name="A")
    assert repr(Folded(name="a")) == "a"
    assert hash(Folded(name="a")) == hash(Folded(name="A"))


def test_equality_compares_the_classes_too():
    @value
    class One:
        name: str

    @value
    class Other:
        name: str

    assert One(name="a") != Other(name="a")
