"""Tables 1 to 4 of the latent VAE (Luhman and Luhman 2023), published beside measured."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Section, Table
from zoo.benchmarks.tables.printed import Joined, printed
from zoo.benchmarks.tables.shared import MARKS, joined

SCORES = {"fid": ("FID", 2), "precision": ("precision", 2), "recall": ("recall", 2)}
TIMES = {"sampling_time": ("s per 1000 images", 1), "speedup": ("speed-up", 3)}
DAYS = {"train_time": ("days on a TPUv3-8", 0)}
PRINTED: list[tuple[str, dict[str, tuple[str, int]], str, list[str]]] = [
    ("Table 1: LSUN Church 256x256", SCORES, "1", []),
    ("Table 2: LSUN Bedroom 256x256, by size of the latents", SCORES, "2", ["downsampling"]),
    ("Table 3: ImageNet 256x256", SCORES, "3", ["guidance", "two_stage"]),
    ("Table 4: sampling time, ImageNet 256x256; speed-up of the latent VAE is 1", TIMES, "4", ["hardware"]),
    ("Section 4.4: training time", DAYS, "text 4.4", ["v100_days_equivalent", "first_stage_v100_days"]),
]
"""Title, metrics, name of the table, and which settings are shown."""


def build(records: Sequence[Line], references: References) -> Table:
    """FID, precision and recall, sampling time with speed-up, training time.

    Args:
        records: stored lines; those that reproduce rows of the paper are shown beside them.
        references: published numbers.
    """
    return Table(
        name="luhman2023",
        title="Latent VAE (Luhman and Luhman 2023)",
        intro=["FID, precision and recall are those of 50,000 samples under the ADM evaluator."],
        sections=sections(references, joined(records, references)),
        marks=MARKS,
    )


def sections(references: References, found: Joined, only: str = "") -> list[Section]:
    """The paper's tables, or those whose title begins so."""
    chosen = [entry for entry in PRINTED if entry[0].startswith(only)]
    return [
        printed(references, found, title, metrics, {"source": "latent_vae", "table": table}, settings=settings)
        for title, metrics, table, settings in chosen
    ]
