"""Test class for a file system that the site writes to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from smoketest.case import SmokeTest, tag
from smoketest.conf import InvalidSettingError
from smoketest.contrib.essentials import targets
from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.contrib.essentials.explain import failing, format_size
from smoketest.store.directory import StateError

#: Number of free inodes that is always sufficient, regardless of the share.
ENOUGH_INODES = 1_000_000
#: Symbolic links may be circular.
_MAX_STEPS = 200


@tag("host")
class DiskTest(SmokeTest):
    place: ClassVar[str]
    databases = ()
    timeout = 5
    slow_after = 0.5

    def test_has_room(self) -> None:
        """The file system has enough free space and inodes."""
        with failing(f"The path of {self.place!r} cannot be determined", "Run: manage.py check"):
            try:
                path = Path(targets.places()[self.place]()).absolute()
            except (InvalidSettingError, StateError) as error:
                self.skipTest(f"There is no directory: {error}")
        if twin := _find_earlier_on_same_device(self.place, path):
            self.skipTest(f"It is on the same file system as {twin!r}, which is tested.")
        with failing(f"The file system of {path} does not respond", "Check: df, dmesg"):
            system = os.statvfs(_existing(path))
        if system.f_flag & os.ST_RDONLY:  # such as a squashfs image, which is always full
            self.skipTest(f"The file system of {path} is mounted read-only.")
        available = system.f_bavail * system.f_frsize
        used = (system.f_blocks - system.f_bfree) * system.f_frsize
        if used + available:  # like df, without blocks reserved for root
            self._compare(path, "", available, used + available, conf.enough_free_disk)
        if system.f_files:  # 0 on file systems without a fixed number
            self._compare(path, " inodes", system.f_favail, system.f_files, ENOUGH_INODES)

    def _compare(self, path: Path, unit: str, free: int, total: int, enough: float) -> None:
        room = f"{free}{unit}" if unit else format_size(free)
        self.assertTrue(
            free >= enough or free >= total * conf.min_free_disk,
            f"Only {free / total:.1%} ({room}) of the file system of {path} is left;"
            f" {EssentialsConf.min_free_disk.name} is {conf.min_free_disk:g}. Delete files or"
            f" enlarge it: df -h{'i' if unit else ''} {path}",
        )


def _existing(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    return next((place for place in (path, *path.parents) if place.exists()), path)


def _find_earlier_on_same_device(place: str, path: Path) -> str:
    """Return an earlier location on the same file system, which is tested instead; or "".

    Devices are compared by the mount table, so a file system that hangs is not accessed.
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
    """Return the devices by mount point (proc(5)); empty on systems without a mount table.

    A read-only mount of a device differs from a writable one, which has to be tested.
    """
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    fields = (line.split(" ") for line in lines)
    # The last mount on a mount point hides the earlier ones.
    return {_unescape(field[4]): f"{field[2]} {field[5][:2]}" for field in fields}


def _unescape(path: str) -> str:
    for written, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        path = path.replace(written, character)
    return path


def _device(path: Path, mounts: dict[str, str]) -> str:
    path = _without_links(path, mounts)
    return next((mounts[str(place)] for place in (path, *path.parents) if str(place) in mounts), "")


def _without_links(path: Path, mounts: dict[str, str]) -> Path:
    """Resolve symbolic links, but only on the root file system: another one may hang."""
    place, ahead = Path(path.anchor), list(reversed(path.parts[1:]))
    for _ in range(_MAX_STEPS):
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
