"""What is installed: the wheel alone, beside packages of others."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROXY_PY = "proxy.py==2.4.10"
"""Its import name is ``proxy``, as ours once was."""


def test_the_wheel_and_the_package_that_is_called_proxy_leave_each_other_alone(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    site = tmp_path / "site"
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("gatepost-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel, PROXY_PY], check=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import gatepost, gatepost_match, proxy, proxy.proxy;"
        "from gatepost import Verdict, hookimpl;"
        "print(gatepost.__file__, gatepost_match.__file__, proxy.__file__, proxy.Proxy.__module__)"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code, site], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [
        str(site / "gatepost" / "__init__.py"),
        str(site / "gatepost_match.py"),
        str(site / "proxy" / "__init__.py"),
        "proxy.proxy",
    ]
    assert not list(site.glob("proxy/gatepost*"))
