"""File systems that the site fills."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from smoketest.case import SmokeTest, tag
from smoketest.conf import InvalidSettingError
from smoketest.contrib.essentials import targets
from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.contrib.essentials.explain import failing, size
from smoketest.store.directory import StateError

#: As many free inodes are enough, however large the file system is.
ENOUGH_INODES = 1_000_000
#: Links may lead in a circle.
_MOST_STEPS = 200


@tag("host")
class DiskTest(SmokeTest):
    place: ClassVar[str]
    databases = ()
    timeout = 5
    slow_after = 0.5

    def test_has_room(self) -> None:
        """The file system has free space and inodes left."""
        with failing(f"The place {self.place!r} is unknown", "Run: manage.py check"):
            try:
                path = Path(targets.places()[self.place]()).absolute()
            except (InvalidSettingError, StateError) as error:
                self.skipTest(f"There is no folder: {error}")
        if twin := _earlier_on_the_same(self.place, path):
            self.skipTest(f"On the same file system as {twin!r}, which is tested.")
        with failing(f"The file system of {path} does not answer", "Look at: df, dmesg"):
            system = os.statvfs(_existing(path))
        available = system.f_bavail * system.f_frsize
        used = (system.f_blocks - system.f_bfree) * system.f_frsize
        if used + available:  # as df counts: what is reserved for root is no room
            self._compare(path, "", available, used + available, conf.enough_free_disk)
        if system.f_files:  # some file systems have as many as they need
            self._compare(path, " inodes", system.f_favail, system.f_files, ENOUGH_INODES)

    def _compare(self, path: Path, unit: str, free: int, total: int, enough: float) -> None:
        room = f"{free}{unit}" if unit else size(free)
        self.assertTrue(
            free >= enough or free >= total * conf.min_free_disk,
            f"Only {free / total:.1%} ({room}) of the file system of {path} is left;"
            f" {EssentialsConf.min_free_disk.name} is {conf.min_free_disk:g}. Delete what is not"
            f" needed, or give it more: df -h{'i' if unit else ''} {path}",
        )


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there already."""
    return next((place for place in (path, *path.parents) if place.exists()), path)


def _earlier_on_the_same(place: str, path: Path) -> str:
    """The first of the places on this file system, if it is another.

    By the table of mounts, so that a place that hangs is not touched for the sake of another.
    """
    mounts = _mounts()
    device = _device(path, mounts)
    for other, locate in targets.places().items():
        if other == place or not device:
            return ""
        if targets.is_wanted("disks", other) and device == _device(
            Path(locate()).absolute(), mounts
        ):
            return other
    return ""


def _mounts() -> dict[str, str]:
    """Devices by mount point; empty where the system has no such table (man 5 proc)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    fields = (line.split(" ") for line in lines)
    # What was mounted last covers the others.
    return {_unescape(field[4]): field[2] for field in fields}


def _unescape(path: str) -> str:
    for written, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        path = path.replace(written, character)
    return path


def _device(path: Path, mounts: dict[str, str]) -> str:
    path = _without_links(path, mounts)
    return next((mounts[str(place)] for place in (path, *path.parents) if str(place) in mounts), "")


def _without_links(path: Path, mounts: dict[str, str]) -> Path:
    """Links are followed on the root's file system alone, since a look at another may hang."""
    place, ahead = Path(path.anchor), list(reversed(path.parts[1:]))
    for _ in range(_MOST_STEPS):
        if not ahead:
            break
        part = ahead.pop()
        place = place.parent if part == ".." else place / part
        if str(place) in mounts:
            break
        if place.is_symlink():
            target = place.parent / place.readlink()
            place, ahead = Path(target.anchor), [*ahead, *reversed(target.parts[1:])]
    return place.joinpath(*reversed(ahead))
