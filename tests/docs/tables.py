"""Generate tables of the documentation from the code.

``python -m tests.docs.tables`` writes them into the pages.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import django

from smoketest import conf
from smoketest.conf import Settings
from smoketest.contrib.celery.conf import CeleryConf
from smoketest.contrib.essentials.conf import EssentialsConf
from smoketest.contrib.health_check.conf import HealthCheckConf
from smoketest.contrib.http.conf import HttpConf
from smoketest.contrib.redis.conf import RedisConf
from smoketest.management.commands.smoketest import Command
from smoketest.metrics import Context, SmokeTestCollector
from tests.builders import NOW, make_known_test, make_run_summary, make_snapshot
from tests.docs.modules import modules_tables

COMMAND = "python -m tests.docs.tables"
DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN = f"<!-- This table comes from the code: {COMMAND} -->"
END = "<!-- End of the table -->"


def metrics_table() -> str:
    """Return a table of the metric families, in the order of the collector."""
    rows = []
    for family in make_collector().collect():
        assert family.samples, f"{family.name} has no samples"
        name = family.samples[0].name
        labels = ", ".join(f"`{label}`" for label in family.samples[0].labels)
        rows.append((f"`{name}`", family.type, labels, family.documentation))
    return _table(("name", "type", "labels", "meaning"), rows)


#: Settings of the built-in checks, by app.
CONTRIB: Mapping[str, type[Settings]] = {
    "smoketest.contrib.essentials": EssentialsConf,
    "smoketest.contrib.http": HttpConf,
    "smoketest.contrib.celery": CeleryConf,
    "smoketest.contrib.redis": RedisConf,
    "smoketest.contrib.health_check": HealthCheckConf,
}


def settings_table() -> str:
    """Return the tables of settings, in the order of the code, with their doc comments."""
    sections = (f"\n## `{app}`\n\n{_settings_of(group)}" for app, group in CONTRIB.items())
    return _settings_of(conf.Conf) + "".join(sections)


def all_settings() -> set[str]:
    """Return the names of all settings."""
    return {name for group in (conf.Conf, *CONTRIB.values()) for name in group.settings}


def _settings_of(group: type[Settings]) -> str:
    meanings = _comments(group)
    return _table(
        ("name", "default", "what is allowed", "meaning"),
        [
            (f"`{name}`", f"`{setting.default!r}`", setting.allowed, meanings[name])
            for name, setting in group.settings.items()
        ],
    )


def faults_table() -> str:
    """Return the tables of faults, with the outcome on each database."""
    from tests.faults import page  # noqa: PLC0415 - its models need the settings

    return page.sections("###")


def options_table() -> str:
    """Return the options of ``manage.py smoketest``, in one table per group of ``--help``."""
    parser = Command().create_parser("manage.py", "smoketest")
    # argparse has no public API for groups. Django adds its own options to the default groups.
    groups = [group for group in parser._action_groups if group.title not in _DEFAULT_GROUPS]
    sections = []
    for group in groups:
        rows = [_option(action, parser) for action in group._group_actions]
        title = group.title or ""
        sections.append(f"### {title[:1].upper()}{title[1:]}\n\n{_table(_OPTION, rows)}")
    return "\n".join(sections)


#: Titles of the groups that argparse creates.
_DEFAULT_GROUPS = {"positional arguments", "options"}
_OPTION = ("option", "meaning")


def _option(action: argparse.Action, parser: argparse.ArgumentParser) -> tuple[str, str]:
    name = action.option_strings[-1] if action.option_strings else f"[{action.metavar} ...]"
    value = "|".join(action.choices or ()) or str(action.metavar or action.dest.upper())
    takes_value = action.option_strings and action.nargs != 0
    meaning = (action.help or "") % {"default": action.default, "prog": parser.prog}
    return f"`{name} {value}`" if takes_value else f"`{name}`", meaning


def setting_checks_table() -> str:
    """Return a table of the system checks that report an invalid setting."""
    groups = (conf.Conf, *CONTRIB.values())
    settings = (setting for group in groups for setting in group.settings.values())
    return _table(
        ("ID", "setting", "what is allowed"),
        sorted((f"`{one.check_id}`", f"`{one.name}`", one.allowed) for one in settings),
    )


#: Functions that generate the table of each page.
TABLES: Mapping[str, Callable[[], str]] = {
    "architecture.md": modules_tables,
    "checks.md": setting_checks_table,
    "command.md": options_table,
    "metrics.md": metrics_table,
    "safety.md": faults_table,
    "settings.md": settings_table,
}


def make_collector() -> SmokeTestCollector:
    """Return a collector whose families all have samples."""
    snapshot = make_snapshot(
        make_known_test(last_success_at=NOW),
        last_full_run=make_run_summary(),
        last_success_at=NOW,
    )
    return SmokeTestCollector(lambda: snapshot, lambda: Context(interval=60.0))


def table_in(page: str) -> str:
    """Return the generated table of a page, which is between two comments."""
    before, begin, rest = page.partition(BEGIN + "\n")
    table, end, after = rest.partition(END + "\n")
    assert begin, f"The page has no line {BEGIN}"
    assert end, f"The page has no line {END}"
    assert END not in before + after, "The page has two generated tables"
    return table


def _comments(group: type[Settings]) -> dict[str, str]:
    """Return the doc comments (``#:``) of the settings, by name."""
    source = inspect.getsource(group)
    found = re.findall(r"((?:^    #: .*\n)+)^    (\w+)\b", source, re.MULTILINE)
    return {
        group.prefix + attribute.upper(): " ".join(re.findall(r"#: (.*)", comment))
        for comment, attribute in found
    }


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write() -> None:
    """Write the tables into the pages."""
    for name, make in TABLES.items():
        path = DOCS / name
        page = path.read_text()
        old, new = (f"{BEGIN}\n{table}{END}\n" for table in (table_in(page), make()))
        path.write_text(page.replace(old, new))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    write()
