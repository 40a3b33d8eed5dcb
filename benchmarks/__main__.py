"""Run the benchmarks: ``python benchmarks [--quick] [--write] [NAME ...]``.

With `--write`, each benchmark writes its results into docs/performance.md. The exit code is 1 if a
benchmark failed; the others still run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from harness import HERE, PAGE, begin_of, end_of

NAMES = ("runner", "waiting", "crowd", "hung", "scrape", "idle", "fleet")


def main() -> int:
    """Run the benchmarks and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--quick", action="store_true", help="run with tiny sizes, to check that they work"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the results into docs/performance.md"
    )
    options = parser.parse_args()
    names = options.names or NAMES
    page = PAGE.read_text()
    for name in names:
        if name not in NAMES:
            parser.error(f"unknown benchmark {name}; use {', '.join(NAMES)}")
        if begin_of(name) not in page or end_of(name) not in page:
            parser.error(f"{PAGE} has no section for {name}")
    flags = [f"--{flag}" for flag in ("quick", "write") if getattr(options, flag)]
    failed = []
    for name in names:
        print(f"\n---- {name} ----", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, HERE / f"{name}.py", *flags], check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
