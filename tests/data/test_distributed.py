"""Two real processes under Lightning: every image once, equal to one process; training shards differ."""

import sys
import zlib
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from tests.data.test_resume import Listener
from zoo.data.datamodule import ImageDataModule


class Recorder(Listener):
    """Writes what this process saw to a file of its own."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def _write(self, kind, number, images):
        with open(Path(self.folder) / f"{kind}-{self.trainer.world_size}-{self.global_rank}", "a") as file:
            file.write(f"{number} {zlib.crc32(images.numpy().tobytes())}\n")

    def training_step(self, batch, batch_idx):
        self._write("train", self.global_step, batch[0])
        return super().training_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        plan = self.trainer.test_dataloaders.plan
        self._write("test", plan.global_batch(batch_idx), batch[0])


def run(folder: str, processes: int) -> None:
    data = ImageDataModule("photos", batch_size=10, crop=32, limit=17, crops_per_image=3)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Recorder(folder)
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)


def seen(folder: Path, kind: str, processes: int) -> list[tuple[str, ...]]:
    lines = []
    for rank in range(processes):
        lines += (folder / f"{kind}-{processes}-{rank}").read_text().splitlines()
    return sorted(tuple(line.split()) for line in lines)


@pytest.mark.slow
def test_two_processes_see_what_one_does(tmp_path):
    import subprocess

    for processes in (1, 2):
        command = [sys.executable, "-m", "tests.data.test_distributed", str(tmp_path), str(processes)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    assert seen(tmp_path, "test", 2) == seen(tmp_path, "test", 1)  # 7 batches: 4 and 3, the last one short
    assert len(seen(tmp_path, "test", 1)) == 7
    single, double = (seen(tmp_path, "train", processes) for processes in (1, 2))
    assert sorted(crc for _, crc in double) == sorted(crc for step, crc in single if int(step) < 4)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
