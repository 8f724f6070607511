"""Dataclasses that are made when they are first used are dataclasses like any other."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pickle
import pkgutil
import threading
from typing import Any

import pytest

from stillrun_snapshot.deferred import dataclass


@dataclass
class Base:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.length = len(self.name)


@dataclass
class Derived(Base):
    size: int = 0


@dataclass(frozen=True, order=True)
class Point:
    x: int
    y: int = 2


@dataclass
class Own:
    x: int

    def __init__(self) -> None:
        self.x = 7


class Plain(Point):
    """Derived without the decorator."""


@dataclass
class Often:
    x: int = 0
    y: dict[str, int] = dataclasses.field(default_factory=dict, repr=False)


def test_it_is_made_when_it_is_used_often() -> None:
    made = [Often(place) for place in range(200)]
    assert [each.x for each in made] == list(range(200))
    assert isinstance(vars(Often)["__dataclass_fields__"], dict)
    assert (repr(made[0]), repr(made[-1])) == ("Often(x=0)", "Often(x=199)")
    assert made[0] == Often() != made[1]
    assert made[0].y is not made[1].y
    with pytest.raises(TypeError, match="unhashable"):
        hash(made[0])


@pytest.mark.parametrize("wrong", [lambda: Rare(), lambda: Rare(1, 2, 3), lambda: Rare(1, z=2), lambda: Rare(1, x=2)])
def test_wrong_arguments_are_refused_as_by_any_class(wrong: Any) -> None:
    with pytest.raises(TypeError):
        wrong()


@dataclass
class Rare:
    x: int
    y: int = 1


def test_few_objects_are_as_good() -> None:
    assert (Point(1), Point(1, 3)) == (Point(1, 2), Point(x=1, y=3))
    assert dataclasses.is_dataclass(Point)


def test_what_it_is_derived_from_is_made_too() -> None:
    made = Derived("ada", size=3)
    assert repr(made) == "Derived(name='ada', tags=[], size=3)"
    assert (made.length, Base("x").tags is Base("x").tags) == (3, False)


def test_objects_do_what_those_of_dataclasses_do() -> None:
    point = Point(1)
    assert dataclasses.replace(point, y=5) == Point(1, 5) > point
    assert {point, Point(1)} == {copy.deepcopy(point)} == {pickle.loads(pickle.dumps(point))}
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="missing"):
        Point()  # type: ignore[call-arg]
    match Plain(4):
        case Point(x, y):
            assert (x, y) == (4, 2)


def test_a_class_keeps_an_init_of_its_own() -> None:
    assert Own().x == 7


def test_many_threads_may_make_the_first_object() -> None:
    for _ in range(20):

        @dataclass
        class Shared:
            value: int

        made: list[Any] = []
        threads = [threading.Thread(target=lambda: made.append(Shared(1))) for _ in range(8)]  # noqa: B023
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert made == [Shared(1)] * 8


@pytest.mark.parametrize("package", ["stillrun_snapshot", "stillrun_envs", "stillrun_engine", "stillrun_cli"])
def test_every_class_of_ours_can_be_made_real(package: str) -> None:
    """What would be wrong with one must not wait until it is used often."""
    home = importlib.import_module(package)
    programs = {"__main__", "enter", "bent_clock", "bent_listings"}  # run, and not imported
    for found in pkgutil.walk_packages(home.__path__, package + "."):
        if found.name.rpartition(".")[2] in programs:
            continue
        module = importlib.import_module(found.name)
        for each in vars(module).values():
            if isinstance(each, type) and each.__module__ == found.name and dataclasses.is_dataclass(each):
                assert isinstance(vars(each)["__dataclass_fields__"], dict)
