"""Assert that `import smoketest` gets an installed wheel, and that it holds what it should."""

import sysconfig
from importlib.metadata import files, version
from pathlib import Path

import smoketest

NAME = "django-smoketest"

installed = Path(sysconfig.get_path("purelib"), "smoketest", "__init__.py")
assert Path(smoketest.__file__) == installed, smoketest.__file__
assert version(NAME) == smoketest.__version__, version(NAME)

paths = [path.parts for path in files(NAME) or ()]
strangers = {top for top, *_ in paths if top != "smoketest" and not top.endswith(".dist-info")}
assert not strangers, f"the wheel installs more than smoketest/: {sorted(strangers)}"
assert ("smoketest", "py.typed") in paths, "the wheel lacks py.typed"

print(f"{NAME} {version(NAME)}: {len(paths)} files, in {installed.parent}")
