"""Results of variational diffusion models (Kingma et al. 2021), published beside measured."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import Section, Table
from zoo.benchmarks.tables.printed import Joined, printed
from zoo.benchmarks.tables.shared import MARKS, joined

STEPS = ["train_steps", "steps"]


def build(records: Sequence[Line], references: References) -> Table:
    """Likelihoods, steps and coded sizes, variance of the bound by noise schedule, FID.

    Args:
        records: stored lines; those that reproduce rows of the paper are shown beside them.
        references: published numbers.
    """
    found = joined(records, references)

    def images(number: Reference) -> str:
        return f"{number.dataset} {number.resolution}x{number.resolution}" + (
            ", with augmentation" if number.augmented else ""
        )

    nll, paper = {"nll": ("bits/dim", 2)}, {"source": "vdm_paper"}
    of_samples = {**paper, "table": "text"}
    return Table(
        name="kingma2021",
        title="Variational diffusion models (Kingma et al. 2021)",
        intro=["Published numbers link to their source, measured ones to their record."],
        sections=[
            printed(references, found, "Likelihoods", nll, {"source": "vdm_page"}, name=images),
            printed(references, found, "Likelihood of the released weights", nll, {"source": "vdm_repo"}, name=images),
            by_steps(references, found),
            schedules(references, found),
            printed(references, found, "Samples, CIFAR-10", {"fid": ("FID", 2)}, of_samples, settings=["objective"]),
        ],
        marks=MARKS,
    )


def by_steps(references: References, found: Joined) -> Section:
    """Table 2: likelihood and coded size by number of steps."""
    metrics = {"nll": ("bits/dim", 2), "coded_net": ("coded, net bits/dim", 2)}
    note = "Trained with infinitely many steps: priced, and coded, with as many as the row says."
    where = {"source": "vdm_paper", "table": "2"}
    return printed(
        references, found, "Published, table 2: CIFAR-10 by steps", metrics, where, settings=STEPS, note=note
    )


def schedules(references: References, found: Joined) -> Section:
    """Variance of the estimated bound by noise schedule."""
    title, same = "Published: VDM on CIFAR-10, variance by noise schedule", "Equal end points and the same bound, 2.66."
    where = {"source": "vdm_paper", "table": "schedules"}
    variance = {"variance": ("variance, (bits/dim)²", 2)}
    return printed(references, found, title, variance, where, settings=["schedule"], note=same)
