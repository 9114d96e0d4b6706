"""`zoo pull` and `zoo reproduce`: official weights in one command, and the whole of a published cell in another."""

from __future__ import annotations

from pathlib import Path


def pull(name: str = "") -> None:
    """Fetch a released checkpoint, check it, import it and keep it under $ZOO_HOME; without a name, list them.

    Args:
        name: released checkpoint; afterwards every command takes the name for CKPT.
    """
    from zoo.checkpoints import load, released
    from zoo.cli.import_checkpoint import describe
    from zoo.progress import reporting

    if not name:
        print(listing())
        return
    with reporting() as report:
        path = released.pull(released.find(name), report)
    print(describe(load(path)))
    print(f"next: zoo test {name}")


def listing() -> str:
    """The released checkpoints, one a line."""
    from zoo.checkpoints.released import released
    from zoo.checkpoints.store import pulled_path

    table = released()
    width = max(map(len, table))
    rows = []
    for name, entry in table.items():
        state = "here" if pulled_path(name).is_file() else "" if entry.open else "host gone"
        rows.append(f"  {name:<{width}}  {state:<9}  {entry.licence:<12}  {entry.config or entry.note}")
    return (
        "Released checkpoints (`zoo pull NAME` fetches and imports one):\n\n"
        + "\n".join(row.rstrip() for row in rows)
        + "\n\n`zoo reproduce NAME --plan` says what pricing one takes and which published number it meets."
    )


def reproduce(name: str, *, plan: bool = False, records: str = "records", batch_size: int = 16) -> None:
    """Weights, data, price and record of a published cell, beside the published number.

    Args:
        name: released checkpoint, see `zoo pull`.
        plan: only say what would be done and what it costs.
        records: folder the record is appended in.
        batch_size: images priced at once.
    """
    from zoo.benchmarks import reproduce as cell
    from zoo.progress import counting, reporting

    wanted = cell.plan(name)
    print("\n".join(wanted.lines()))
    if plan:
        return
    with reporting() as report, counting(f"pricing {name}") as step:
        record = cell.reproduce(name, Path(records), batch_size, report, step)
    print(f"measured   {record.bits_per_dim:.4f} bits/dim ± {record.standard_error:.4f} over {record.images:,} images")
    for number in wanted.published:
        published = number.bits_per_dim()
        if published is not None:
            gap = record.bits_per_dim - published
            print(f"published  {number.value} {number.unit} ({number.id}), gap {gap:+.4f} bits/dim")
