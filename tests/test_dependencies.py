"""What is required is bounded by what was tested, and deploy/constraints.txt names what was tested."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
OPTIONAL = PROJECT["optional-dependencies"]
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    if line.strip() and not line.strip().startswith("#")
]
EXTRAS = ("archives", "office", "oidc", "postgres", "redis", "systemd", "yara")
IN_USE = [
    *map(Requirement, PROJECT["dependencies"]),
    *(Requirement(one) for extra in EXTRAS for one in OPTIONAL[extra]),
]
ALL = [*IN_USE, *map(Requirement, (*OPTIONAL["test"], *PYPROJECT["build-system"]["requires"]))]


def constraints_of(name):
    return [one for one in CONSTRAINTS if canonicalize_name(one.name) == canonicalize_name(name)]


def version(constraint):
    (exactly,) = constraint.specifier
    assert exactly.operator == "=="
    return Version(exactly.version)


def next_major(version):
    """Before 1.0 the second number counts as the major version."""
    return Version(str(version.major + 1)) if version.major else Version(f"0.{version.minor + 1}")


def bounds(requirement):
    return {bound.operator: Version(bound.version) for bound in requirement.specifier}


@pytest.mark.parametrize("requirement", [one for one in ALL if one.name != PROJECT["name"]], ids=str)
def test_a_dependency_has_both_bounds(requirement):
    assert bounds(requirement).keys() == {">=", "<"}


@pytest.mark.parametrize("requirement", IN_USE, ids=str)
def test_the_upper_bound_is_the_major_version_after_the_newest_that_is_tested(requirement):
    newest = max(map(version, constraints_of(requirement.name)))
    assert bounds(requirement)["<"] == next_major(newest)


@pytest.mark.parametrize("requirement", IN_USE, ids=str)
def test_the_versions_for_production_are_allowed(requirement):
    for constraint in constraints_of(requirement.name):
        assert requirement.specifier.contains(version(constraint))


def test_whatever_is_installed_with_gatepost_has_a_version_for_production():
    seen, missing = set(), set()
    waiting = [requirement for requirement in IN_USE if holds(requirement)]
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if len([one for one in constraints_of(requirement.name) if holds(one)]) != 1:
            missing.add(requirement.name)
        try:
            needs = distribution(requirement.name).requires or ()
        except PackageNotFoundError:  # of an extra, which need not be installed
            continue
        waiting += [one for one in map(Requirement, needs) if holds(one, requirement.extras)]
    assert len(seen) > len(IN_USE)
    assert not missing, "write deploy/constraints.txt anew with .ci/constraints"


def test_what_is_installed_for_a_trap_stays_below_139_megabytes_with_its_bytecode():
    """Files as they come: bytecode is as much as two fifths of them."""
    seen, waiting = set(), [*map(Requirement, PROJECT["dependencies"])]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in seen and holds(requirement):
            seen.add(name)
            waiting += map(Requirement, distribution(name).requires or ())
    sizes = {
        name: sum(file.size or 0 for file in distribution(name).files or () if file.suffix != ".pyc") / 1e6
        for name in seen
    }
    assert sizes["sqlalchemy"] > 5
    assert sum(sizes.values()) * 1.4 < 139, sorted(sizes.items(), key=lambda item: -item[1])[:12]


def holds(requirement, extras=()):
    marker = requirement.marker
    return not marker or any(marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def test_the_pythons_that_are_tested_are_declared():
    stated = (ROOT / "docs" / "installing.md").read_text()
    tested = re.findall(r"^\| (3\.\d+)\.\d+ \|", stated, re.MULTILINE)
    declared = [
        found[1]
        for classifier in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))
    ]
    assert declared == tested
    assert PROJECT["requires-python"] == f">={tested[0]}"
