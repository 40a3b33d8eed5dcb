"""Check that `import smoketest` imports the installed wheel, and check the files of the wheel."""

import sysconfig
from importlib.metadata import files, version
from pathlib import Path

import smoketest

NAME = "django-smoketest"

installed = Path(sysconfig.get_path("purelib"), "smoketest", "__init__.py")
assert Path(smoketest.__file__) == installed, smoketest.__file__
assert version(NAME) == smoketest.__version__, version(NAME)

paths = [path.parts for path in files(NAME) or ()]
unexpected = {top for top, *_ in paths if top != "smoketest" and not top.endswith(".dist-info")}
assert not unexpected, f"the wheel contains more than smoketest/: {sorted(unexpected)}"
assert ("smoketest", "py.typed") in paths, "py.typed is missing from the wheel"

print(f"{NAME} {version(NAME)}: {len(paths)} files, in {installed.parent}")
