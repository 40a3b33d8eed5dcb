"""Base class of the test of available memory, of the host and of the container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smoketest.case import SmokeTest
from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.contrib.essentials.explain import format_size

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the host or of a control group, in bytes."""

    name: str
    total: int
    available: int

    @property
    def share(self) -> float:
        return self.available / self.total


class MemoryLeft(SmokeTest):
    databases = ()

    def check_memory(self) -> None:
        found = list(memories())
        if not found:
            self.skipTest("This system does not report how much memory is available.")
        scarce = [
            f"{memory.share:.1%} ({format_size(memory.available)}) of the memory of {memory.name}"
            for memory in found
            if memory.available < conf.enough_free_memory and memory.share < conf.min_free_memory
        ]
        if scarce:
            self.fail(
                f"Only {' and '.join(scarce)} is available;"
                f" {EssentialsConf.min_free_memory.name} is {conf.min_free_memory:g}. See what uses"
                " it: ps aux --sort=-rss | head. Run fewer workers to use less."
            )


def memories() -> Iterator[Memory]:
    """Yield the memory of the host, and of each control group of this process that has a limit."""
    if (host := _read_host()) is not None:
        yield host
    for hierarchy, files in _hierarchies():
        for folder in hierarchy:
            if (group := _read_group(folder, *files)) is not None:
                yield group


def _read_host() -> Memory | None:
    values = _numbers(PROC / "meminfo")
    if "MemAvailable:" not in values or not values.get("MemTotal:"):
        return None
    return Memory("the host", values["MemTotal:"] * 1024, values["MemAvailable:"] * 1024)


#: Names of the files with limit and usage, and of the statistic for reclaimable memory.
_Files = tuple[str, str, str]
_V2: _Files = ("memory.max", "memory.current", "inactive_file")
_V1: _Files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _hierarchies() -> Iterator[tuple[list[Path], _Files]]:
    """Yield the directories of this process's control groups and their parents (cgroups(7))."""
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield _folders(CGROUPS, path), _V2
            yield _folders(CGROUPS / "unified", path), _V2
        elif "memory" in controllers.split(","):
            yield _folders(CGROUPS / "memory", path), _V1


def _folders(root: Path, path: str) -> list[Path]:
    """Return a group and its parents. In a container, the path may not exist, only the root."""
    group = root / path.lstrip("/")
    return [group, *(folder for folder in group.parents if folder.is_relative_to(root))]


def _read_group(folder: Path, limit: str, usage: str, reclaimable: str) -> Memory | None:
    try:
        total = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return None
    reclaimable_bytes = _numbers(folder / "memory.stat").get(reclaimable, 0)
    available = max(0, total - max(0, used - reclaimable_bytes))
    return Memory(f"the control group {folder}", total, available) if total else None


def _numbers(file: Path) -> dict[str, int]:
    """Return the numbers by name, from lines such as ``MemTotal: 1024 kB``."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
