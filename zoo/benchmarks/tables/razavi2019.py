"""Tables 1 and 2 of VQ-VAE-2 (Razavi et al. 2019), published beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.benchmarks.records import Line
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Section, Table
from zoo.benchmarks.tables.printed import Joined, printed
from zoo.benchmarks.tables.shared import MARKS, joined

SPLIT: dict[str, Any] = {"settings": ["split"], "by_value": False}
CAS = {"cas_top1": ("top-1, %", 2), "cas_top5": ("top-5, %", 2)}
HOW = {"note": "A classifier trained on samples alone, tested on real images or on their reconstructions."}
PRINTED: list[tuple[str, dict[str, tuple[str, int]], str, dict[str, Any]]] = [
    ("Table 1: priors over codes, ImageNet 256x256", {"prior_nll": ("NLL per code", 2)}, "1", SPLIT),
    ("Table 1: error of the decoder", {"mse": ("MSE", 4)}, "1", SPLIT),
    ("Table 2: classification accuracy score, ResNet-50", CAS, "2", HOW),
    ("Section 5.3.1: FID", {"fid": ("FID", 0)}, "text 5.3.1", {}),
]
"""Title, metrics, name of the table, and how it is shown."""


def build(records: Sequence[Line], references: References) -> Table:
    """Likelihood of the codes, error of the decoder, classification accuracy, FID.

    Args:
        records: stored lines; those that reproduce rows of the paper are shown beside them.
        references: published numbers.
    """
    return Table(
        name="razavi2019",
        title="VQ-VAE-2 (Razavi et al. 2019), ImageNet 256x256",
        intro=[
            "Likelihoods of table 1 price codes, not pixels, and their unit is not stated: see the table `codes`. FID "
            "is read from the text; the paper draws it over the rejection rate."
        ],
        sections=sections(references, joined(records, references)),
        marks=MARKS,
    )


def sections(references: References, found: Joined, only: str = "") -> list[Section]:
    """The paper's tables, or those whose title begins so."""
    chosen = [entry for entry in PRINTED if entry[0].startswith(only)]
    return [
        printed(references, found, title, metrics, {"source": "vqvae2", "table": table}, **options)
        for title, metrics, table, options in chosen
    ]
