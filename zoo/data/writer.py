"""Writing prepared files: streamed, atomic, sealed with a digest of the whole file (`zoo.data.seals`).

The seal is written last, so a file whose writer was killed has none and is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from zoo.data.packed import FORMAT, VERSION
from zoo.data.seals import SEAL_BYTES, seal
from zoo.errors import UserError
from zoo.files import atomic_path, check_place, new_folder

BUFFER_BYTES = 4 << 20  # pixels collected before they go to the file


class PackedWriter:
    """Writes images split by split, in any interleaving; memory does not grow with the number of images.

    Args:
        path: file to write (a temporary one; see `new_file`).
        counts: images of each split, known before the first is written.
        shape: (H, W, C).
        encoding: "raw" (contiguous pixels) or "png" (PNG files, for large images).
        labelled: whether every image comes with a label.
    """

    def __init__(
        self,
        path: Path,
        counts: Mapping[str, int],
        shape: tuple[int, int, int],
        encoding: str = "raw",
        labelled: bool = False,
    ) -> None:
        self.path = path
        self.file = h5py.File(path, "w", libver="latest", userblock_size=SEAL_BYTES, locking=False)
        self.splits = {
            name: _SplitWriter(self.file.create_group(name), count, shape, encoding, labelled)
            for name, count in counts.items()
            if count > 0
        }
        self.encoding = encoding

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def add(self, split: str, image: np.ndarray, label: int | None = None, png: bytes | None = None) -> None:
        """Append one image (H, W, C) uint8 to a split; `png` saves encoding it again."""
        self.splits[split].add(image, label, png)

    def finish(self, attributes: Mapping[str, Any]) -> dict[str, str]:
        """Write what is still buffered, digests and attributes; seal the file.

        Returns:
            sha256 of the pixels of each split.
        """
        digests = {name: split.finish() for name, split in self.splits.items()}
        own = {"format": FORMAT, "format_version": VERSION, "encoding": self.encoding}
        for key, value in {**attributes, **own}.items():
            text = json.dumps(value) if isinstance(value, dict | list | tuple) else value
            self.file.attrs[key] = text
        self.file.close()
        seal(self.path)
        return digests


class _SplitWriter:
    """One split of a file being written."""

    def __init__(
        self, group: h5py.Group, count: int, shape: tuple[int, int, int], encoding: str, labelled: bool
    ) -> None:
        self.group, self.count, self.shape = group, count, shape
        self.done = 0
        self.digest = hashlib.sha256()
        self.labels = np.empty(count, np.int64) if labelled else None
        self.buffer: list[np.ndarray] = []
        self.rows = max(1, BUFFER_BYTES // max(1, int(np.prod(shape))))
        self.images = self.bytes = None
        if encoding == "raw":
            self.images = group.create_dataset("images", (count, *shape), np.uint8)
        else:
            self.bytes = group.create_dataset("bytes", (0,), np.uint8, maxshape=(None,), chunks=(1 << 20,))
            self.offsets = np.zeros(count + 1, np.int64)
            self.pending = io.BytesIO()

    def add(self, image: np.ndarray, label: int | None, png: bytes | None) -> None:
        if image.shape != self.shape or image.dtype != np.uint8:
            raise UserError(
                f"{self.group.name[1:]} image {self.done}: {image.dtype} {image.shape}, expected uint8 {self.shape}; "
                "is this the right source, or is --resolution missing?"
            )
        if self.done == self.count:
            raise UserError(
                f"{self.group.name[1:]}: more images than the {self.count} announced; is the source changing?"
            )
        if self.labels is not None:
            self.labels[self.done] = -1 if label is None else label
        self.done += 1
        self.digest.update(np.ascontiguousarray(image).data)
        if self.images is not None:
            self.buffer.append(image)
            if len(self.buffer) == self.rows:
                self._flush_pixels()
        else:
            content = encode_png(image) if png is None else png
            self.pending.write(content)
            self.offsets[self.done] = self.offsets[self.done - 1] + len(content)
            if self.pending.tell() > BUFFER_BYTES:
                self._flush_bytes()

    def finish(self) -> str:
        if self.done != self.count:
            raise UserError(f"{self.group.name[1:]}: the source ended after {self.done} of {self.count} images")
        if self.images is not None:
            self._flush_pixels()
        else:
            self._flush_bytes()
            self.group.create_dataset("offsets", data=self.offsets)
            self.group.attrs["shape"] = np.array((self.count, *self.shape))
        if self.labels is not None:
            self.group.create_dataset("labels", data=self.labels)
        self.group.attrs["sha256"] = self.digest.hexdigest()
        return self.digest.hexdigest()

    def _flush_pixels(self) -> None:
        if self.buffer and self.images is not None:
            self.images[self.done - len(self.buffer) : self.done] = np.stack(self.buffer)
            self.buffer.clear()

    def _flush_bytes(self) -> None:
        if self.bytes is not None:
            content = np.frombuffer(self.pending.getvalue(), np.uint8)
            size = self.bytes.shape[0]
            self.bytes.resize((size + len(content),))
            self.bytes[size:] = content
            self.pending = io.BytesIO()


def encode_png(image: np.ndarray) -> bytes:
    """PNG file of an (H, W, C) uint8 image with C = 1 or 3."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Temporary path that becomes `path` when the block succeeds; one writer at a time.

    What an earlier writer left behind when it was killed is removed first.

    Raises:
        UserError: another process is preparing the same file.
    """
    check_place(path)
    lock = path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(new_folder(path.parent))
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR)
        cleanup.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{path}: another process is preparing it; wait for that one or choose --output") from error
        cleanup.callback(lock.unlink, missing_ok=True)
        for stale in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):
            stale.unlink(missing_ok=True)
        with atomic_path(path) as temporary:
            yield temporary
