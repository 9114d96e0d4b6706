"""`zoo sample`: draw images from a model."""

import inspect
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.likelihood import LikelihoodModel


def sample(
    checkpoint: str,
    *,
    output: str = "samples.png",
    n: int = 16,
    temperature: list[float] = [1.0],  # noqa: B006 (a default for the parser, never changed)
    label: int | None = None,
    guidance_mean: float = 0.0,
    guidance_std: float = 0.0,
    steps: int = 0,
    over_time: int = 0,
    columns: int | None = None,
    classifier: str | None = None,
    keep: float = 0.1,
    batch_size: int = 16,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Draw images from a model into one PNG grid.

    Args:
        checkpoint: path or name of a checkpoint.
        output: PNG file to write.
        n: images at each temperature.
        temperature: of the latents, as a list like [1.0,0.9,0.8]; each one starts a new row and uses the same noise.
        label: class to draw, for conditional models.
        guidance_mean: strength of guidance of the means, for latent VAEs.
        guidance_std: strength of guidance of the standard deviations, for latent VAEs.
        steps: sampling steps, for models that have a choice (VDM); 0 keeps the model's own.
        over_time: one row per image with so many pictures on its way from noise, for models that sample in steps (VDM).
        columns: images in a row; null chooses.
        classifier: keep only the samples to which this classifier gives `label` the highest probability (Razavi et al.
            2019, section 3.3): `digits`, a TorchScript file or a class path.
        keep: share of the samples that the classifier keeps.
        batch_size: images drawn at once.
        device: where the network runs: cpu, cuda, cuda:1, mps; auto takes a GPU if there is one.
        seed: of the noise.
    """
    import torch

    from zoo.checkpoints import load
    from zoo.cli.devices import device_of, placed
    from zoo.cli.pictures import check_png, save_grid
    from zoo.cli.steps import draw_over_time, set_steps, step_progress
    from zoo.likelihood import LikelihoodModel

    path = check_png(output)
    if n < 1 or batch_size < 1:
        raise UserError(f"--n {n} --batch_size {batch_size}: expected at least 1")
    if any(value < 0 for value in temperature) or not temperature:
        raise UserError(f"--temperature {temperature}: expected numbers of at least 0, like [1.0,0.8]")
    model = placed(load(checkpoint).network, device)
    if not isinstance(model, LikelihoodModel):
        raise UserError(f"{checkpoint}: {type(model).__name__} is a part of a model and draws no images of its own")
    set_steps(model, steps)
    options = _guidance(model, guidance_mean, guidance_std)
    labels = None if label is None else torch.full((n,), label, device=device_of(model))
    if over_time:
        torch.manual_seed(seed)
        with torch.inference_mode(), step_progress(model):
            rows = draw_over_time(model, n, over_time, labels)
        save_grid(rows, path, over_time)
        print(f"{path}: {n} image(s) over time, noise on the left")
        return
    columns = columns or (n if len(temperature) > 1 else None)
    parts: list[Tensor] = []
    with step_progress(model):
        for value in temperature:
            torch.manual_seed(seed)
            if classifier is not None:
                drawn = [_best(model, classifier, label, n, keep, value, batch_size).cpu()]
            else:
                drawn = [_draw(model, min(batch_size, n - i), value, labels, options) for i in range(0, n, batch_size)]
            blank = -n % columns if columns else 0  # a temperature's last row is filled up
            parts += [*drawn, torch.full((blank, *drawn[0].shape[1:]), 255, dtype=torch.uint8)]
    save_grid(torch.cat(parts), path, columns)
    print(f"{path}: {n} image(s) at temperature {', '.join(f'{value:g}' for value in temperature)}")


def _draw(
    model: "LikelihoodModel", n: int, temperature: float, labels: "Tensor | None", options: dict[str, Any]
) -> "Tensor":
    import torch

    with torch.inference_mode():
        return model.sample(n, temperature, None if labels is None else labels[:n], **options).cpu()


def _best(
    model: "LikelihoodModel", classifier: str, label: int | None, n: int, keep: float, temperature: float, size: int
) -> "Tensor":
    """The samples of a class that a classifier likes best."""
    import torch

    from zoo.benchmarks.measures.rejection import load_classifier, rejection_sample

    if label is None:
        raise UserError("--classifier: give the class to draw with --label")
    kept = rejection_sample(model, load_classifier(classifier), torch.tensor([label]), n, keep, temperature, size)
    print(f"kept {len(kept.images)} of {kept.drawn} samples ({kept.acceptance:.1%}), temperature {temperature:g}")
    return kept.images


def _guidance(model: "LikelihoodModel", mean: float, std: float) -> dict[str, Any]:
    """Arguments of guided sampling, if any is asked for."""
    options = {name: value for name, value in (("guidance_mean", mean), ("guidance_std", std)) if value}
    unknown = sorted(options.keys() - inspect.signature(model.sample).parameters.keys())
    if unknown:
        raise UserError(f"--{unknown[0]}: {type(model).__name__} has no guidance; leave the option out")
    return options
