"""A site in a container: read-only file systems, an arbitrary user, and no HOME."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.services import missing, require

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces"),
]

#: Runs a command for which all file systems with a folder for temporary files are read-only.
READ_ONLY = """
for folder in / /tmp /var/tmp; do
    mount --bind "$folder" "$folder" 2>/dev/null
    mount -o remount,bind,ro "$folder" || exit 77
done
exec "$0" "$@"
"""

SITE = """
import io
import json
import os
import sys
import tempfile
from wsgiref.util import setup_testing_defaults
import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
sys.path.insert(0, sys.argv[1])
settings.configure(
    SECRET_KEY="x",
    ROOT_URLCONF="container_urls",
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["smoketest", "container"],
    DATABASES={},
)
django.setup()
def get(path):
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    statuses = []
    response = get_wsgi_application()(environ, lambda status, _: statuses.append(status))
    return [statuses[0][:3], b"".join(response).decode()]
try:
    has_temporary_folder = bool(tempfile.gettempdir())
except FileNotFoundError:
    has_temporary_folder = False
checks = io.StringIO()
call_command("check", stdout=checks, stderr=checks)
results = {path: get(path) for path in ("/smoketest/", "/smoketest/metrics")}
print(json.dumps([has_temporary_folder, checks.getvalue(), results]))
"""

SMOKE = """
import os
from smoketest import SmokeTest
class T(SmokeTest):
    def test_it(self):
        assert "HOME" not in os.environ and os.getuid() == 54321
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a site that any user can read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    for name, text in {
        "container/__init__.py": "",
        "container/smoke.py": SMOKE,
        "container_urls.py": "from django.urls import include, path\n"
        "urlpatterns = [path('smoketest/', include('smoketest.urls'))]\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    yield folder
    shutil.rmtree(folder)


def run_site(folder: Path, prefix: list[str]) -> Any:
    """Run the site as a user without a name, and return what it prints as JSON."""
    if os.geteuid() != 0:
        missing("changing the user and mounting need root")
    # The user may read every file, because Python can be installed in the home of another user.
    capability = "+dac_read_search"
    as_user = [
        require("setpriv"), "--reuid=54321", "--regid=54321", "--clear-groups",
        f"--inh-caps={capability}", f"--ambient-caps={capability}",
    ]  # fmt: skip
    done = subprocess.run(
        [*prefix, *as_user, sys.executable, "-c", SITE, str(folder)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        missing("mounting in a namespace is not permitted")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_read_only_root_file_system(folder: Path) -> None:
    """Without any writable folder, the tests run, and `check` reports what is missing."""
    unshare = [require("unshare"), "--mount", "--propagation=private", "sh", "-c"]
    has_temporary_folder, checks, results = run_site(folder, [*unshare, READ_ONLY])
    assert not has_temporary_folder
    assert "smoketest.W002" in checks
    assert results["/smoketest/"][0] == "200", results
    assert results["/smoketest/metrics"][0] == "200"
    assert "smoketest_results_store_up 0.0" in results["/smoketest/metrics"][1]


def test_arbitrary_user_without_home(folder: Path) -> None:
    """A user without a name and HOME has a results store in the temporary folder."""
    has_temporary_folder, checks, results = run_site(folder, [])
    assert has_temporary_folder
    assert "smoketest.W" not in checks
    assert results["/smoketest/"][0] == "200", results
    assert "smoketest_results_store_up 1.0" in results["/smoketest/metrics"][1]
    for state in Path(tempfile.gettempdir()).glob("django-smoketest-54321-*"):
        shutil.rmtree(state)
