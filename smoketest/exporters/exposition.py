"""The metrics as bytes: those of results are made when results change, the few others now.

A scrape concatenates two expositions, which is possible because no family is in both.
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
    """What the results store is to keep: each encoding, as it is and compressed."""

    def render(snapshot: Snapshot) -> dict[str, bytes]:
        families = list(result_families(snapshot, context()))
        renditions = {}
        for encoding in ENCODINGS:
            body = encode(families, encoding)
            renditions[_name(encoding, is_compressed=False)] = body
            renditions[_name(encoding, is_compressed=True)] = begin_gzip(body)
        return renditions

    return render


@dataclass
class Exposition:
    """The metrics page of one process, which remembers what it read last."""

    store: ResultsStore
    #: What the store has rendered, with its generation, by name.
    _results: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    #: The whole pages, with all that they depend on, by name.
    _pages: dict[str, tuple[tuple[int, bool, Context], bytes]] = field(default_factory=dict)

    def render(
        self, status: Status | None, context: Context, encoding: Encoding, *, compressed: bool
    ) -> bytes:
        """The page; with a status of None, that of a store that cannot be read."""
        name = _name(encoding, is_compressed=compressed)
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
        """What the store has rendered, read again when it has changed; None if it cannot be."""
        remembered = self._results.get(name)
        if remembered is None or remembered[0] != generation:
            try:
                remembered = self._results[name] = self.store.rendition(name)
            except StoreError:
                return None
        return remembered[1]


def _join(
    body: bytes | None, context: Context, encoding: Encoding, *, is_up: bool, compressed: bool
) -> bytes:
    live = encode(live_families(context, is_up=is_up), encoding) + encoding.end
    if compressed:
        return end_gzip(begin_gzip(b"") if body is None else body, live)
    return (body or b"") + live


def _name(encoding: Encoding, *, is_compressed: bool) -> str:
    """With the version: processes of two releases may share the store during a deployment."""
    return f"{encoding.name}{' gzip' if is_compressed else ''} {__version__}"


# A gzip member is a header, a deflate stream, and the checksum and length of what it holds
# (https://www.rfc-editor.org/rfc/rfc1952#section-2.3). A stream that was flushed can go on, so
# that the large first part need not be compressed again. Two members, one behind the other, would
# be simpler, but curl reads only the first.

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_CHECKSUM_AND_LENGTH = struct.Struct("<II")


def begin_gzip(data: bytes) -> bytes:
    """The compressed data, with its checksum and length behind it, to go on with."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH)
    return stream + _CHECKSUM_AND_LENGTH.pack(zlib.crc32(data), len(data) & 0xFFFFFFFF)


def end_gzip(begun: bytes, data: bytes) -> bytes:
    """A gzip member of what `begin_gzip` was given and of this data."""
    split = len(begun) - _CHECKSUM_AND_LENGTH.size
    checksum, length = _CHECKSUM_AND_LENGTH.unpack_from(begun, split)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = deflate.compress(data) + deflate.flush(zlib.Z_FINISH)
    trailer = _CHECKSUM_AND_LENGTH.pack(
        zlib.crc32(data, checksum), (length + len(data)) & 0xFFFFFFFF
    )
    return b"".join((_HEADER, memoryview(begun)[:split], stream, trailer))
