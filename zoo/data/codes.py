"""Files of codes: what a quantised autoencoder makes of a data set, computed once and read by the priors.

Layout (HDF5 behind a seal as in `zoo.data.seals`, format version 2; `L` levels, top first):

    /train, /val, /test       one group a split
        <level> [N, h, w]     uint16 codes, chunks of whole images
        label [N]             int32, -1 where there is none
        attributes            sha256 of the codes and labels in order
    attributes                format, format_version, key (what the codes were made from), levels, grids, num_codes,
                              settings (JSON), complete

While codes are made they go to a journal beside the file, which only grows: a line with the key, then batches, each
with its checksum. Whatever the codes depend on is in the key, and the key is in the file name, so codes of other
weights, data or settings are never taken.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from zoo.data.loading import Batch, BatchLoader
from zoo.data.packed import own
from zoo.data.plans import EvaluationPlan, Request, TrainingPlan, Window
from zoo.data.seals import SEAL_BYTES, check_seal, seal
from zoo.errors import UserError, reading
from zoo.files import atomic_path, writing

FORMAT = "zoo-codes"
VERSION = 2
SEAL = b"zoo-codes 2\nsha256 "
SPLITS = ("train", "val", "test")
_CHUNK = 64  # images per chunk and per hashed piece
_RECORD = struct.Struct("<BII")  # of the journal: split, images, CRC-32 of both and of what follows
_MOST_IMAGES = 1 << 20  # in one batch of the journal


@dataclass(frozen=True)
class CodeInfo:
    """What a file of codes says of itself."""

    path: Path
    key: str
    levels: list[str]
    grids: list[tuple[int, int]]
    num_codes: list[int]
    counts: Mapping[str, int]  # split -> images
    settings: Mapping[str, Any]


def code_key(settings: Mapping[str, Any]) -> str:
    """Digest of everything that codes depend on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class CodeWriter:
    """Writes a file of codes split by split, resumably.

    Batches go to a journal that is only ever appended to, each with a checksum, so a killed extraction goes on behind
    its last whole batch. `finish` makes the HDF5 file of it.

    Args:
        path: final name; the file takes it in `finish`.
        key: digest of what the codes are made from.
        levels: their names, top first.
        grids: (h, w) of each.
        num_codes: codebook sizes.
        settings: noted in the file.

    Raises:
        UserError: another process writes the same file, or the place cannot be written.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        levels: list[str],
        grids: list[tuple[int, int]],
        num_codes: list[int],
        settings: Mapping[str, Any],
    ) -> None:
        self.path, self.levels, self.grids = Path(path), levels, grids
        self.journal = self.path.with_suffix(".journal")
        self._counts: dict[str, int] = {}
        described = {"format": FORMAT, "format_version": VERSION, "key": key, "complete": 1}
        described |= {"levels": json.dumps(levels), "grids": json.dumps(grids), "num_codes": json.dumps(num_codes)}
        self._attributes = described | {"settings": json.dumps(dict(settings), sort_keys=True)}
        with writing(self.journal):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.journal, "a+b")  # noqa: SIM115 - open until `finish` or `close`
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"{self.path}: another process is extracting these codes; wait for it") from error
        self._continue((json.dumps({"journal": 1, "key": key, "grids": grids}) + "\n").encode())

    def _continue(self, head: bytes) -> None:
        """Count the whole batches of an earlier attempt and cut away what follows; another's journal is emptied."""
        self._file.seek(0)
        end = len(head) if self._file.read(len(head)) == head else 0
        for split, count, payload in self._batches() if end else ():
            self._counts[split] = self._counts.get(split, 0) + count
            end += _RECORD.size + len(payload)
        self._file.truncate(end)
        if not end:
            self._file.write(head)
            self._file.flush()

    def _batches(self) -> Iterator[tuple[str, int, bytes]]:
        """(split, images, codes and labels) of the whole batches from here on."""
        while len(head := self._file.read(_RECORD.size)) == _RECORD.size:
            split, count, checksum = _RECORD.unpack(head)
            if split >= len(SPLITS) or count > _MOST_IMAGES:
                return
            payload = self._file.read(count * self._bytes)
            if len(payload) < count * self._bytes or zlib.crc32(head[:-4] + payload) != checksum:
                return
            yield SPLITS[split], count, payload

    @property
    def _bytes(self) -> int:
        """Bytes of one image's codes and label in the journal."""
        return sum(2 * height * width for height, width in self.grids) + 4

    def done(self, split: str) -> int:
        """Images of a split that are written already."""
        return self._counts.get(split, 0)

    def append(self, split: str, codes: list[Tensor], labels: Tensor) -> None:
        """Add a batch: (B, h, w) codes of every level, top first, and labels (B,)."""
        count = len(labels)
        parts = [values.cpu().numpy().astype("<u2") for values in codes] + [labels.cpu().numpy().astype("<i4")]
        payload = b"".join(part.tobytes() for part in parts)
        head = _RECORD.pack(SPLITS.index(split), count, 0)[:-4]
        with writing(self.journal):
            self._file.write(head + zlib.crc32(head + payload).to_bytes(4, "little") + payload)
            self._file.flush()
        self._counts[split] = self.done(split) + count

    def finish(self) -> Path:
        """Make the sealed file of the journal, give it its name, and remove the journal."""
        with atomic_path(self.path) as temporary:
            with h5py.File(temporary, "w", userblock_size=SEAL_BYTES) as file:
                for split, count in self._counts.items():
                    group = file.create_group(split)
                    for name, grid in zip(self.levels, self.grids, strict=True):
                        chunks = (min(_CHUNK, count), *grid)
                        group.create_dataset(name, (count, *grid), np.uint16, chunks=chunks, compression="lzf")
                    group.create_dataset("label", (count,), np.int32)
                self._copy(file)
                for group in file.values():
                    group.attrs["sha256"] = _digest(group, self.levels)
                file.attrs.update(self._attributes)
            seal(temporary, SEAL)
        self._file.close()
        self.journal.unlink(missing_ok=True)
        return self.path

    def _copy(self, file: h5py.File) -> None:
        """Bring the batches of the journal to their places."""
        self._file.seek(0)
        self._file.readline()
        filled = dict.fromkeys(self._counts, 0)
        for split, count, payload in self._batches():
            start, at = filled[split], 0
            for name, (height, width) in zip(self.levels, self.grids, strict=True):
                values = np.frombuffer(payload, "<u2", count * height * width, at)
                file[split][name][start : start + count] = values.reshape(count, height, width)
                at += values.nbytes
            file[split]["label"][start : start + count] = np.frombuffer(payload, "<i4", count, at)
            filled[split] += count

    def close(self) -> None:
        """Leave the journal for the next attempt."""
        self._file.close()


def _digest(group: h5py.Group, levels: Iterable[str]) -> str:
    """SHA-256 over codes and labels of a split, in order."""
    digest = hashlib.sha256()
    for name in [*levels, "label"]:
        dataset = group[name]
        for start in range(0, len(dataset), 64 * _CHUNK):
            digest.update(np.ascontiguousarray(dataset[start : start + 64 * _CHUNK]).tobytes())
    return digest.hexdigest()


def describe_codes(path: str | Path, verify: bool = False) -> CodeInfo:
    """Read the description of a file of codes.

    Args:
        path: the file.
        verify: also compare the digests, which reads everything once.

    Raises:
        UserError: if the file is missing, damaged, unfinished or of another format.
    """
    path = Path(path)
    advice = "delete it and extract the codes again"
    if not path.is_file():
        raise UserError(f"{path}: no such file of codes; extract them first (zoo fit with stages does)")
    try:
        check_seal(path, start=SEAL)  # before HDF5 sees it: damaged structures can keep it busy for ever
    except UserError as error:
        raise UserError(f"{path}: a damaged file of codes, or one of an older version; {advice}") from error
    with reading(path, advice), h5py.File(path, "r") as file:
        attributes = dict(file.attrs)
        if attributes.get("format") != FORMAT or attributes.get("format_version") != VERSION:
            raise UserError(f"{path}: not a file of codes of version {VERSION}; {advice}")
        if not attributes.get("complete"):
            raise UserError(f"{path}: an unfinished file of codes; {advice}")
        levels = json.loads(attributes["levels"])
        for name in file:
            split = own(file, name)
            for level in [*levels, "label"]:
                own(split, level)
            if verify and _digest(split, levels) != split.attrs["sha256"]:
                raise UserError(f"{path}: codes of split {name!r} are not what was written; {advice}")
        return CodeInfo(
            path,
            str(attributes["key"]),
            levels,
            [tuple(grid) for grid in json.loads(attributes["grids"])],
            json.loads(attributes["num_codes"]),
            {name: len(split["label"]) for name, split in file.items()},
            json.loads(attributes["settings"]),
        )


class CodeReader:
    """Flat codes of one split by index: (B, n) int64, all levels one after the other, top first.

    The file is opened at the first read in each process.

    Args:
        info: the file.
        split: "train", "val" or "test".
        levels: number of upper levels to read; None reads all.
    """

    def __init__(self, info: CodeInfo, split: str, levels: int | None = None) -> None:
        if split not in info.counts:
            raise UserError(f"{info.path}: no split {split!r}; it holds {', '.join(info.counts)}")
        self.path, self.split, self.levels = info.path, split, info.levels[:levels]
        self.count, self.digest = info.counts[split], info.key
        self._process: int | None = None
        self._group: Any = None

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": None, "_group": None}

    def __getitems__(self, request: Request) -> Batch:
        """The codes and labels that a plan asks for."""
        if self._process != os.getpid():
            self._group, self._process = h5py.File(self.path, "r")[self.split], os.getpid()
        # HDF5 wants increasing rows; one loop over sorted rows is much faster than its fancy indexing
        order = np.argsort(request.indices, kind="stable")
        back = np.argsort(order, kind="stable")
        rows = [int(row) for row in request.indices[order]]
        parts = [np.stack([self._group[name][row].reshape(-1) for row in rows]) for name in self.levels]
        labels = np.array([self._group["label"][row] for row in rows], np.int64)
        codes = np.concatenate(parts, 1).astype(np.int64)
        return torch.from_numpy(codes[back]), torch.from_numpy(labels[back])


class CodeDataModule(pl.LightningDataModule):
    """Codes as training data of a prior: batches are (int64 (B, n), int64 (B,)).

    Args:
        path: file of codes.
        batch_size: images of a batch of one process; with `global_batch_size`, at most so many.
        global_batch_size: images of a training step over all processes and accumulated batches; null = what comes out.
        eval_batch_size: batch size of evaluation; null = `batch_size`.
        levels: number of upper levels in a batch; null = all.
        val_split: split that validation reads.
        test_split: split that `test` reads.
        seed: of the training order.
        num_workers: processes that read ahead.
    """

    def __init__(
        self,
        path: str,
        batch_size: int = 32,
        global_batch_size: int | None = None,
        eval_batch_size: int | None = None,
        levels: int | None = None,
        val_split: str = "val",
        test_split: str = "test",
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.path, self.batch_size, self.levels = path, batch_size, levels
        self.global_batch_size = global_batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.val_split, self.test_split, self.seed, self.num_workers = val_split, test_split, seed, num_workers
        self._info: CodeInfo | None = None

    @property
    def info(self) -> CodeInfo:
        """Description of the file, verified once."""
        if self._info is None:
            self._info = describe_codes(self.path, verify=True)
        return self._info

    def train_dataloader(self) -> BatchLoader[TrainingPlan]:
        """Shuffled, endlessly continuable."""
        reader = CodeReader(self.info, "train", self.levels)
        rank, world = self._place()
        plan = TrainingPlan(len(reader), Window(1, 1), self.batch_size, seed=self.seed, rank=rank, world_size=world)
        return BatchLoader(reader, plan, self.num_workers)

    def val_dataloader(self) -> BatchLoader[EvaluationPlan]:
        """Every image of the validation split, in order."""
        return self.evaluation_loader(self.val_split)

    def test_dataloader(self) -> BatchLoader[EvaluationPlan]:
        """Every image of the test split, in order."""
        return self.evaluation_loader(self.test_split)

    def evaluation_loader(self, split: str) -> BatchLoader[EvaluationPlan]:
        """Every image of a split once, in order."""
        reader = CodeReader(self.info, split, self.levels)
        rank, world = self._place()
        plan = EvaluationPlan(len(reader), Window(1, 1), self.eval_batch_size, rank, world)
        return BatchLoader(reader, plan, self.num_workers)

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
