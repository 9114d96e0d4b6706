"""`zoo validate`, `zoo test` and `zoo predict`: price a checkpoint on a split, on any number of processes."""

import json
from typing import Any


def validate(
    checkpoint: str = "",
    *options: str,
    ckpt_path: str | None = None,
    config: list[str] = [],  # noqa: B006 (a default for the reader, never changed)
) -> None:
    """Price the validation split and print the means.

    Args:
        checkpoint: a file, a run folder or a shipped name.
        options: words for Lightning's own parser, such as --data.dataset cifar10 or --trainer.accelerator cpu.
        ckpt_path: another way to name the checkpoint.
        config: configuration whose values are taken instead of the checkpoint's own.
    """
    from zoo.cli.pricing import open_subject

    subject = open_subject("validate", checkpoint or ckpt_path, options, config)
    cli = subject.cli
    results = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    for name, value in results[0].items():
        if "rate/" not in name:
            print(f"{name} {value:.5f}")


def price(
    checkpoint: str = "",
    *options: str,
    ckpt_path: str | None = None,
    config: list[str] = [],  # noqa: B006
    passes: int = 1,
    importance_samples: int = 0,
    estimator: str = "",
    records: str = "records",
    note: str = "",
) -> None:
    """Price every image of the split once and append a record.

    Args:
        checkpoint: a file, a run folder or a shipped name.
        options: words for Lightning's own parser, such as --data.dataset cifar10 or --trainer.accelerator cpu.
        ckpt_path: another way to name the checkpoint.
        config: configuration whose values are taken instead of the checkpoint's own.
        passes: posterior draws averaged per image.
        importance_samples: K > 1: importance-weighted bound of K draws.
        estimator: one of the model's own estimators, such as steps-250 or ode of VDM.
        records: folder the record goes to, or one file (.jsonl).
        note: remark kept in the record.
    """
    from zoo.benchmarks import records as store_of_records
    from zoo.benchmarks.measures.evaluator import Evaluation, Settings
    from zoo.benchmarks.measures.identity import describe_split
    from zoo.cli.measure import summary
    from zoo.cli.pricing import Pricing, open_subject
    from zoo.recipes.notes import note_test

    store_of_records.try_place(records)
    subject = open_subject("test", checkpoint or ckpt_path, options, config)
    cli = subject.cli
    settings = Settings(passes, importance_samples, int(cli.config.seed_everything), estimator)
    pricing = Pricing(Evaluation(cli.model.network, settings))
    cli.trainer.test(pricing, datamodule=cli.datamodule, verbose=False)
    loader: Any = cli.trainer.test_dataloaders
    assert pricing.summary is not None
    record = pricing.evaluation.record(
        describe_split(loader),
        loader.batch_size,
        pricing.summary,
        **subject.described,
        note=note,
    )
    if cli.trainer.is_global_zero:
        target = store_of_records.place(records, record)
        print(summary(record), flush=True)
        store_of_records.append(target, record)
        print(f"record appended to {target}")
        note_test(subject.folder, {"bits_per_dim": record.bits_per_dim, "rate": record.rate}, subject.step)


def predict(
    checkpoint: str = "",
    *options: str,
    ckpt_path: str | None = None,
    config: list[str] = [],  # noqa: B006
    output: str = "prices.jsonl",
) -> None:
    """Write the price of every image of the split, one line each.

    Args:
        checkpoint: a file, a run folder or a shipped name.
        options: words for Lightning's own parser, such as --data.dataset cifar10 or --trainer.accelerator cpu.
        ckpt_path: another way to name the checkpoint.
        config: configuration whose values are taken instead of the checkpoint's own.
        output: file to write, one JSON object per image.
    """
    import torch

    from zoo.benchmarks.measures.evaluator import Evaluation, Settings
    from zoo.cli.pricing import Pricing, open_subject
    from zoo.files import atomic_path

    subject = open_subject("predict", checkpoint or ckpt_path, options, config)
    cli = subject.cli
    pricing = Pricing(Evaluation(cli.model.network, Settings(seed=int(cli.config.seed_everything))))
    batches = cli.trainer.predict(pricing, datamodule=cli.datamodule) or []
    rows = [row for batch in batches for row in batch]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shares: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, rows)
        rows = sorted((row for share in shares for row in share), key=lambda row: row["index"])
    if cli.trainer.is_global_zero:
        with atomic_path(output) as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{output}: prices of {len(rows)} images")
