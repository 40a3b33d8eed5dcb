"""Start the site like a server process, and print the measurements as JSON.

``python -m bench_site.start`` imports only modules that the site imports anyway.
"""

import json
import resource
import sys
import time

started = time.perf_counter()
import django  # noqa: E402 - measured

django.setup()
set_up = time.perf_counter()
after_set_up = set(sys.modules)

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import get_resolver  # noqa: E402

get_wsgi_application()
assert get_resolver().url_patterns
served = time.perf_counter()
modules = sorted(sys.modules)

# Resident memory before the first request.
with open("/proc/self/statm") as statm:  # noqa: PTH123 - pathlib would be imported
    megabytes = int(statm.read().split()[1]) * resource.getpagesize() / 1e6

print(
    json.dumps(
        {
            "setup": set_up - started,
            "served": served - started,
            "megabytes": megabytes,
            "after_setup": sorted(after_set_up),
            "modules": modules,
        }
    )
)
