"""Starts the site as a server process does, and prints as JSON what that took.

``python -m bench_site.start``; nothing is imported before that the site does not import anyway.
"""

import json
import resource
import sys
import time

began = time.perf_counter()
import django  # noqa: E402 - it is what is measured

django.setup()
set_up = time.perf_counter()
after_set_up = set(sys.modules)

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import get_resolver  # noqa: E402

get_wsgi_application()
assert get_resolver().url_patterns
served = time.perf_counter()
modules = sorted(sys.modules)

# What the site has in memory before it has answered anything.
with open("/proc/self/statm") as statm:  # noqa: PTH123 - pathlib would be imported
    megabytes = int(statm.read().split()[1]) * resource.getpagesize() / 1e6

print(
    json.dumps(
        {
            "setup": set_up - began,
            "served": served - began,
            "megabytes": megabytes,
            "after_setup": sorted(after_set_up),
            "modules": modules,
        }
    )
)
