"""The one evaluator: every image of a split once, with noise of its own, summed so that no partition changes a thing.

The price of an image depends on the image alone: on the seed, the pass and its number in the split, not on the images
it shares a batch with or on the number of processes. Products of matrices of other sizes round differently, so another
batch size may change the last digits of float32; another number of processes changes nothing. Everything is computed
in float32 without TF32, however the model was trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.benchmarks import records
from zoo.benchmarks.measures.bits_per_dim import BitsPerDim, Summary
from zoo.benchmarks.measures.claims import upheld
from zoo.benchmarks.measures.identity import Split, architecture, describe, describe_split
from zoo.benchmarks.records import Record, references
from zoo.checkpoints.store import weights_digest
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, ImportanceSample, LikelihoodModel, LikelihoodTerms, to_levels
from zoo.likelihood.latents import importance_weighted
from zoo.likelihood.noise import ImageNoise, Noise
from zoo.passed import has_passed
from zoo.seeds import derive_seed

if TYPE_CHECKING:
    from zoo.data.loading import EvaluationLoader


@dataclass(frozen=True)
class Settings:
    """How an image is priced.

    Attributes:
        passes: independent draws of the noise, averaged per image.
        importance_samples: K > 1 gives the importance-weighted bound with K samples in every pass.
        seed: of all noise.
        estimator: one of `LikelihoodModel.estimators`; empty for the one it trains with.
    """

    passes: int = 1
    importance_samples: int = 0
    seed: int = 0
    estimator: str = ""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise UserError(f"passes={self.passes}: expected at least 1")
        if self.importance_samples < 0:
            raise UserError(f"importance_samples={self.importance_samples}: expected 0 (plain bound) or more")
        if self.estimator and self.weighted:
            raise UserError(f"importance_samples={self.importance_samples} with estimator={self.estimator}: choose one")

    @property
    def weighted(self) -> bool:
        """Whether importance weights tighten the bound; one sample would give the ELBO again."""
        return self.importance_samples > 1


class Evaluation:
    """Prices batches one by one and turns the sums into a record.

    `evaluate` drives it over a loader; a trainer's test loop can drive it as well.

    Args:
        network: the model; it is put into eval mode.
        settings: passes, importance samples, seed.
    """

    def __init__(self, network: LikelihoodModel, settings: Settings = Settings()) -> None:
        if settings.weighted and not isinstance(network, AncestralModel):
            raise UserError(
                f"importance_samples={settings.importance_samples}: {type(network).__name__} has no latents to weight; "
                "use passes instead"
            )
        if settings.weighted and network.kind == "exact":
            raise UserError(
                f"importance_samples={settings.importance_samples}: {type(network).__name__} prices exactly, nothing "
                "can be tighter; leave it out"
            )
        if settings.estimator and not network.estimators():
            raise UserError(f"estimator={settings.estimator}: {type(network).__name__} has only one; leave it out")
        self.network = network.eval()
        self.settings = settings
        self.metric: BitsPerDim | None = None
        self.num_dims = 0
        self.priced = network.priced
        self.started = time.perf_counter()

    def update(self, x: Tensor, label: Tensor | None, indices: Sequence[int]) -> None:
        """Price a batch.

        Args:
            x: (B, C, H, W) uint8.
            label: (B,) int64, -1 = none.
            indices: (B,) number of each image in the split; fixes its noise.
        """
        terms, bounds = self._draws(x, label, indices)
        nelbo = bounds.mean(dim=0)  # (passes, B) -> (B,)
        if not bool(torch.isfinite(nelbo).all()):
            row = int((~torch.isfinite(nelbo)).nonzero()[0])
            raise UserError(
                f"image {int(indices[row])} of the split has a cost of {float(nelbo[row])}; the weights are damaged or "
                "the model diverged in training"
            )
        variance = bounds.var(dim=0) / len(bounds) if len(bounds) > 1 else None
        self._metric(terms).update(terms, nelbo, variance)

    def price(self, x: Tensor, label: Tensor | None, indices: Sequence[int]) -> tuple[LikelihoodTerms, Tensor]:
        """Terms averaged over passes, and the (B,) nats to report; the caller's random numbers stay as they were."""
        terms, bounds = self._draws(x, label, indices)
        return terms, bounds.mean(dim=0)  # (passes, B) -> (B,)

    def _draws(self, x: Tensor, label: Tensor | None, indices: Sequence[int]) -> tuple[LikelihoodTerms, Tensor]:
        """Terms averaged over passes, and the (passes, B) nats of every pass."""
        devices = [x.device] if x.device.type == "cuda" else []
        every: list[LikelihoodTerms] = []
        bounds: list[Tensor] = []
        with torch.no_grad(), torch.random.fork_rng(devices=devices), full_precision(x.device):
            for number in range(self.settings.passes):
                torch.manual_seed(derive_seed(self.settings.seed, number, int(indices[0])))  # of what takes no noise
                terms, bound = self._one_pass(x, label, indices, number)
                every.append(terms)
                bounds.append(bound)
        return mean_terms(every), torch.stack(bounds)

    def _one_pass(
        self, x: Tensor, label: Tensor | None, indices: Sequence[int], number: int
    ) -> tuple[LikelihoodTerms, Tensor]:
        """Terms and (B,) nats of one pass."""
        seed, draws = self.settings.seed, self.settings.importance_samples
        if self.settings.weighted:
            several = [ImageNoise(seed, number * draws + draw, indices) for draw in range(draws)]
            return _weighted(self.network, x, label, several)
        noise = ImageNoise(seed, number, indices)
        if self.settings.estimator:
            terms = _double(self.network.terms_with(self.settings.estimator, x, label, noise))
        else:
            terms = _double(self.network.terms(x, label, noise))
        return terms, terms.nelbo

    def _metric(self, terms: LikelihoodTerms) -> BitsPerDim:
        """The metric, made when the first batch has shown the groups."""
        if self.metric is None:
            self.metric = BitsPerDim(list(terms.rates)).to(terms.distortion.device)
            self.num_dims, self.priced = terms.num_dims, terms.priced
        return self.metric

    def summary(self, example: Callable[[], tuple[Tensor, Tensor | None]] | None = None) -> Summary:
        """Means over all images of all processes.

        Args:
            example: a batch to learn the groups' names from, for a process that was dealt none; it is not counted.
        """
        if self.metric is None and example is not None:
            terms, _ = self.price(*example(), [0])
            rates = {name: rate[:0] for name, rate in terms.rates.items()}
            nothing = LikelihoodTerms(terms.distortion[:0], rates, terms.num_dims, terms.priced)
            self._metric(terms).update(nothing)
        if self.metric is None:
            raise UserError("no image was priced: the split is empty")
        return self.metric.compute()

    def record(self, split: Split, batch_size: int, summary: Summary, **identity: Any) -> Record:
        """The record of a finished evaluation.

        Args:
            split: what was priced; its number of images must equal the number priced.
            batch_size: images priced at once.
            summary: from `summary`.
            identity: what `zoo.benchmarks.measures.identity.describe` says of the checkpoint, and `note`.

        Raises:
            UserError: images were missed or priced twice.
        """
        if summary.images != split.images:
            raise UserError(
                f"{split.dataset}/{split.split}: {summary.images} images priced, the split has {split.images}; each "
                "must be priced once, so no record is written"
            )
        given = {name: value for name, value in identity.items() if value is not None}
        spec = dict(given.pop("spec", {}) or {"class_path": type(self.network).__qualname__, "init_args": {}})
        known = self._network(spec if identity.get("spec") else {})
        own = not given.get("overrides") and known["precision"] == "float32"
        given["reproduces"] = upheld(given.get("reproduces", ()), known["architecture"], split, own)
        return Record(
            model=references.load().family(spec["class_path"]).name,
            spec=spec,
            dataset=split.dataset,
            variant=split.variant,
            split=split.split,
            dataset_digest=split.digest,
            verified=split.verified,
            complete=split.complete,
            resolution=split.resolution,
            num_dims=self.num_dims,
            priced=self.priced,
            passes=self.settings.passes,
            importance_samples=self.settings.importance_samples if self.settings.weighted else 0,
            seed=self.settings.seed,
            batch_size=batch_size,
            rate=summary.rate,
            seconds=round(time.perf_counter() - self.started, 3),
            **{**summary._asdict(), "rates": dict(summary.rates)},
            **known,
            **{"config": spec["class_path"].rpartition(".")[2], **given},
            **records.stamp(),
        )

    def _network(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """What a record says of the network and of the way it was priced."""
        weights = list(self.network.parameters())
        types = [weight.dtype for weight in weights if weight.is_floating_point()] or [torch.float32]
        return {
            "architecture": architecture(spec) if spec else "",
            "checked": has_passed(type(self.network)),
            "precision": str(types[0]).removeprefix("torch."),
            "weights": weights_digest(self.network.state_dict()),
            "parameters": sum(weight.numel() for weight in weights),
            "bits": self.network.bits,
            "bins": self.network.bins,
            "kind": "importance" if self.settings.weighted else self.network.kind,
            "estimator": self.settings.estimator or self.network.default_estimator,
        }


def evaluate(
    network: LikelihoodModel,
    loader: EvaluationLoader,
    settings: Settings = Settings(),
    *,
    progress: Callable[[int], None] | None = None,
    **identity: Any,
) -> Record:
    """Price every image of a split once.

    Args:
        network: the model, on the device to use.
        loader: whole split, or this process's share of it.
        settings: passes, importance samples, seed.
        progress: called with the number of images after each batch.
        identity: what `zoo.benchmarks.measures.identity.describe` says of the checkpoint, and `note`.

    Returns:
        The record; the same in every process but for date, hardware and seconds.
    """
    split = describe_split(loader)
    evaluation = Evaluation(network, settings)
    device = next(iter(network.parameters()), torch.zeros(())).device
    for position, (x, label) in enumerate(loader):
        evaluation.update(x.to(device), label.to(device), loader.indices(position).tolist())
        if progress is not None:
            progress(len(x))

    def example() -> tuple[Tensor, Tensor]:
        x, label = loader.first(1)
        return x.to(device), label.to(device)

    return evaluation.record(split, loader.batch_size, evaluation.summary(example), **identity)


def evaluate_checkpoint(
    source: str | Path,
    dataset: str | None = None,
    split: str = "test",
    settings: Settings = Settings(),
    *,
    batch_size: int = 32,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    **overrides: Any,
) -> Record:
    """Load a checkpoint and price a split with it; windows of the model's size tile larger images.

    Args:
        source: path or shipped name.
        dataset: name or path, as `zoo fit` takes it; null = the data the checkpoint was trained on.
        split: "train", "val" or "test".
        settings: passes, importance samples, seed.
        batch_size: images per batch.
        limit: price only the first so many images of the file (noted in the record).
        progress: called with the number of images after each batch.
        overrides: arguments of the network to replace, for example `bins="vdvae"`.
    """
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(source, **overrides)
    loader = open_split(dataset, split, loaded.model.image_shape, loaded.data, limit, batch_size)
    return evaluate(
        loaded.model,
        loader,
        settings,
        progress=progress,
        **describe(loaded),
        note=f"first {limit} images of the file only" if limit else None,
    )


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 inside, whatever is set outside."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def mean_terms(every: Sequence[LikelihoodTerms]) -> LikelihoodTerms:
    """Average of the terms of the same images under different noise."""
    first = every[0]
    return LikelihoodTerms(
        distortion=torch.stack([terms.distortion for terms in every]).mean(dim=0),
        rates={name: torch.stack([terms.rates[name] for terms in every]).mean(dim=0) for name in first.rates},
        num_dims=first.num_dims,
        priced=first.priced,
    )


def _weighted(
    network: LikelihoodModel, x: Tensor, label: Tensor | None, several: Sequence[Noise]
) -> tuple[LikelihoodTerms, Tensor]:
    """Mean of one-sample terms, one for each noise, and the importance-weighted bound (B,) nats they give together."""
    if not isinstance(network, AncestralModel):
        raise TypeError(f"{type(network).__name__} has no ancestral pass")
    every = []
    for noise in several:
        policy = ImportanceSample(noise)
        pixels = network.ancestral_pass(policy, x, len(x), label)
        distortion = -pixels.log_prob(to_levels(x, network.bits))
        every.append(_double(LikelihoodTerms(distortion, policy.rates, x[0].numel(), network.priced)))
    return mean_terms(every), importance_weighted(torch.stack([terms.nelbo for terms in every]))


def _double(terms: LikelihoodTerms) -> LikelihoodTerms:
    """Terms in float64."""
    rates = {name: rate.double() for name, rate in terms.rates.items()}
    return LikelihoodTerms(terms.distortion.double(), rates, terms.num_dims, terms.priced)
