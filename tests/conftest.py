"""Options and markers of the whole test suite."""

import os
import shutil

import pytest
from hypothesis import settings

# How long an example takes depends on the machine; in CI hypothesis loads a profile of its own.
settings.register_profile("here", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("here")


NO_CORPUS = "GATEPOST_CORPUS is not set"
"""Why a test of a collection of mail that is no part of the project is skipped, in CI too."""


def pytest_addoption(parser):
    text = "Fail if a test is skipped for want of a program (as CI does)."
    parser.addoption("--no-skips", action="store_true", help=text)
    text = "Play at full length what is otherwise played in part (as CI does)."
    parser.addoption("--long", action="store_true", help=text)
    text = "Take what is measured now as what things may cost (tests/cost/costs.json)."
    parser.addoption("--update-costs", action="store_true", help=text)
    text = "Write docs/reliability.md from what the tests of this run have seen."
    parser.addoption("--update-reliability", action="store_true", help=text)


def pytest_collection_modifyitems(config, items):
    """A test marked `real("smtp-source")` is skipped, visibly, where that program is not installed.

    With --no-skips nothing runs at all then.
    """
    for item in items:
        for marker in item.iter_markers("real"):
            missing = [name for name in marker.args if not find_program(name)]
            if missing and config.getoption("--no-skips"):
                raise pytest.UsageError(f"not installed: {', '.join(missing)}")
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


def find_program(name):
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [
        report for report in reporter.stats.get("skipped", []) if NO_CORPUS not in str(report.longrepr)
    ]
    if session.config.getoption("--no-skips") and exitstatus == 0 and skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
