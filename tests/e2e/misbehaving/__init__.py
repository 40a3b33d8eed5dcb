"""App with smoke tests that hang or block on request, for the example site."""

import os

#: Timeout of the hanging tests, in seconds.
TIMEOUT = float(os.environ.get("MISBEHAVING_TIMEOUT", "0.5"))
#: Seconds after which a hanging test returns. Longer than any response takes, even on a machine
#: that is ten times slower.
MAX_HANG = 600.0
#: Seconds between the two marks of the mark test; 0 disables it.
MARK_SECONDS = float(os.environ.get("MISBEHAVING_MARKS", "0"))
