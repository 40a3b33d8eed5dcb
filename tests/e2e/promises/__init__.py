"""An app that misbehaves on demand, added to the example site to see what a server promises."""

import os

#: Seconds that the tests may take which hang.
TIMEOUT = float(os.environ.get("PROMISES_TIMEOUT", "0.5"))
#: Seconds after which what hangs ends by itself: later than any answer may come.
HANGS_FOR = 3.0
#: The same for a sleep: longer than a server takes to end.
SLEEPS_FOR = 60.0
#: For how long C code holds the interpreter lock.
HOLDS_FOR = 1.5
#: Seconds between the marks that a test leaves; none are left if 0.
MARKS_FOR = float(os.environ.get("PROMISES_MARKS", "0"))
