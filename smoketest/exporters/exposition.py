"""The metrics page, most of which is rendered in advance.

The metrics of results are rendered when results are recorded, the others at each scrape. A scrape
concatenates the two parts; no family is in both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from smoketest import __version__
from smoketest.metrics import ENCODINGS, Context, Encoding, encode, live_families, result_families
from smoketest.store import Render, ResultsStore, Snapshot, Status, StoreError


def renderer(context: Callable[[], Context]) -> Render:
    """Return a function that renders a snapshot in each encoding, both plain and compressed."""

    def render(snapshot: Snapshot) -> dict[str, bytes]:
        current = context()
        families = list(result_families(snapshot, current))
        renditions = {}
        for encoding in ENCODINGS:
            body = encode(families, encoding)
            renditions[_name(encoding, current, is_compressed=False)] = body
            renditions[_name(encoding, current, is_compressed=True)] = start_gzip(body)
        return renditions

    return render


@dataclass
class Exposition:
    """The metrics page; each process caches it until the results or the context change."""

    store: ResultsStore
    #: Rendered metrics of results and their generation in the store, by name.
    _results: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    #: Complete pages and the values that they depend on, by name.
    _pages: dict[str, tuple[tuple[int, bool, Context], bytes]] = field(default_factory=dict)

    def render(
        self, status: Status | None, context: Context, encoding: Encoding, *, compressed: bool
    ) -> bytes:
        """Return the page. `status` is None if the results store cannot be read."""
        name = _name(encoding, context, is_compressed=compressed)
        if status is None:
            return _join(None, context, encoding, is_up=False, compressed=compressed)
        key = (status.generation, status.is_up, context)
        page = self._pages.get(name)
        if page is None or page[0] != key:
            body = self._read_results(name, status.generation)
            is_up = body is not None and status.is_up
            page = key, _join(body, context, encoding, is_up=is_up, compressed=compressed)
            if body is not None:
                self._pages[name] = page
        return page[1]

    def _read_results(self, name: str, generation: int) -> bytes | None:
        """Return the rendered metrics of results, or None if the store cannot be read."""
        cached = self._results.get(name)
        if cached is None or cached[0] != generation:
            try:
                cached = self._results[name] = self.store.rendition(name)
            except StoreError:
                return None
        return cached[1]


def _join(
    body: bytes | None, context: Context, encoding: Encoding, *, is_up: bool, compressed: bool
) -> bytes:
    live = encode(live_families(context, is_up=is_up), encoding) + encoding.end
    if compressed:
        return finish_gzip(start_gzip(b"") if body is None else body, live)
    return (body or b"") + live


def _name(encoding: Encoding, context: Context, *, is_compressed: bool) -> str:
    """Return the name of a rendition.

    It includes the version and the name of the site, because two releases can share the store
    during a deployment.
    """
    compression = " gzip" if is_compressed else ""
    return f"{encoding.name}{compression} {__version__} {context.project}".rstrip()


# A gzip member consists of a header, a deflate stream, and the checksum and length of its content
# (https://www.rfc-editor.org/rfc/rfc1952#section-2.3). Data can be appended to a flushed stream, so
# the large first part is compressed only once. Two concatenated members would be simpler, but curl
# reads only the first.

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_CHECKSUM_AND_LENGTH = struct.Struct("<II")


def start_gzip(data: bytes) -> bytes:
    """Compress the first part of a gzip member, for `finish_gzip`.

    The checksum and length of the data follow the deflate stream.
    """
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH)
    return stream + _CHECKSUM_AND_LENGTH.pack(zlib.crc32(data), len(data) & 0xFFFFFFFF)


def finish_gzip(started: bytes, data: bytes) -> bytes:
    """Return a complete gzip member: the part from `start_gzip`, followed by `data`."""
    split = len(started) - _CHECKSUM_AND_LENGTH.size
    checksum, length = _CHECKSUM_AND_LENGTH.unpack_from(started, split)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = deflate.compress(data) + deflate.flush(zlib.Z_FINISH)
    trailer = _CHECKSUM_AND_LENGTH.pack(
        zlib.crc32(data, checksum), (length + len(data)) & 0xFFFFFFFF
    )
    return b"".join((_HEADER, memoryview(started)[:split], stream, trailer))
