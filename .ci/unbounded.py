"""Print what pyproject.toml requires, for pip, without the bounds of versions."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
    for requirement in requirements:
        if not requirement.startswith(project["name"]):
            print(re.sub(r"[<>=!~][^;]*", "", requirement, count=1))
