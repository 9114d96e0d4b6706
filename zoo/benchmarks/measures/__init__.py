"""What is measured: one module a question, each also the command `zoo measure QUESTION`.

A question's module has `measure(...) -> Iterator[Line]`: it yields every record as soon as it is known and knows no
table. Signature and docstring become options and help; `checkpoint` as first parameter is given without its name.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from zoo.errors import UserError, closest

if TYPE_CHECKING:
    from zoo.benchmarks.records import Line


class Question(NamedTuple):
    """Where a question is answered and what it asks."""

    module: str
    summary: str


QUESTIONS: dict[str, Question] = {
    "accuracy": Question("zoo.benchmarks.measures.accuracy", "classifiers trained on real images, copies, samples"),
    "bins": Question("zoo.benchmarks.measures.bins", "the same weights under meeting and under official bins"),
    "classical": Question("zoo.benchmarks.measures.baselines", "PNG, WebP and JPEG XL on the bundled photographs"),
    "codes": Question("zoo.benchmarks.measures.codes", "priors over codes: nats per code, error of the decoder"),
    "coding": Question("zoo.benchmarks.measures.coding", "real files beside the estimate for the same images"),
    "compute": Question("zoo.benchmarks.measures.counting", "parameters, FLOPs and activation bytes, counted"),
    "depth": Question("zoo.benchmarks.measures.depths", "one small network trained at 1 to 8 bits"),
    "layers": Question("zoo.benchmarks.measures.layers", "one small network at several numbers of layers"),
    "neighbours": Question("zoo.benchmarks.measures.neighbours", "samples beside their nearest training images"),
    "pruning": Question("zoo.benchmarks.measures.pruning", "share of posteriors kept against the bound"),
    "quality": Question("zoo.benchmarks.measures.quality", "samples and reconstructions against real images"),
    "reconstruction": Question("zoo.benchmarks.measures.reconstruction", "SSIM, PSNR and error of reconstructions"),
    "rejection": Question("zoo.benchmarks.measures.rejection", "quality of samples by the share that is rejected"),
    "schedules": Question("zoo.benchmarks.measures.schedules", "variance of a diffusion model's estimated bound"),
    "speed": Question("zoo.benchmarks.measures.speed", "images/s of evaluation and training, share of the peak"),
    "speed_codec": Question("zoo.benchmarks.measures.speed_codec", "megapixels/s of encoding and decoding"),
    "speed_data": Question("zoo.benchmarks.measures.speed_data", "images/s of the data path"),
    "speed_sampling": Question("zoo.benchmarks.measures.sampling", "seconds per 1000 images drawn"),
    "speed_walk": Question("zoo.benchmarks.measures.walking", "PixelSNAIL's cached walk against recomputing"),
    "steps": Question("zoo.benchmarks.measures.steps", "a diffusion model's bits/dim and seconds by number of steps"),
    "stability": Question("zoo.benchmarks.measures.stability", "small trainings with and without gradient smoothing"),
}


def find(name: str) -> "Callable[..., Iterator[Line]]":
    """The function that answers a question.

    Raises:
        UserError: there is no question of that name.
    """
    if name not in QUESTIONS:
        raise UserError(f"zoo measure {name}: no such question; {closest(name, QUESTIONS)}")
    function: Callable[..., Iterator[Line]] = importlib.import_module(QUESTIONS[name].module).measure
    return function
