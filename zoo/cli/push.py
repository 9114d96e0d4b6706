"""`zoo push`: a checkpoint as a folder that can be put on the Hugging Face Hub."""

from pathlib import Path


def push(checkpoint: str, folder: str, *, records: str | None = None, licence: str = "mit") -> None:
    """Write weights, config and a model card with every recorded number of these weights.

    Args:
        checkpoint: a file, a run folder, or the name of a shipped or pulled checkpoint.
        folder: to write to.
        records: folder of records (default: those that ship).
        licence: of the weights, for the card.
    """
    from zoo.benchmarks.records import Record, best, collect, of_kind
    from zoo.checkpoints import load, push_to

    digest = load(checkpoint).digest
    numbers = best(line for line in of_kind(collect(records), Record) if line.weights == digest)
    facts = [
        f"{line.bits_per_dim:.4f} bits/dim on {line.dataset}/{line.split} ({line.images:,} images, {line.kind})"
        for line in numbers
        if line.priced == "pixels"
    ]
    written = push_to(Path(folder), checkpoint, facts, licence)
    print(f"{written}: model.safetensors, config.json and README.md with {len(facts)} number(s)")
