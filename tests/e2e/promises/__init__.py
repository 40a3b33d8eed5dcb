"""An app that misbehaves on demand, added to the example site to see what a server promises."""

import os

#: Timeout of the tests that hang, in seconds.
TIMEOUT = float(os.environ.get("PROMISES_TIMEOUT", "0.5"))
#: Seconds after which a test that hangs ends by itself: far later than any answer may come, even
#: on a machine that is ten times slower.
HANGS_FOR = 600.0
#: Seconds between the marks that a test leaves; none are left if 0.
MARKS_FOR = float(os.environ.get("PROMISES_MARKS", "0"))
