"""Which published rows a number may stand beside: those its configuration names, while it still is that configuration.

A row of a published table is named by the configuration that reproduces it (`reproduces` in the YAML file). A record
carries the name only if the network is still the configuration's, the images are those of its data, and nothing was
changed for the number.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.benchmarks.measures.counting import networks_of
from zoo.benchmarks.measures.identity import Split, architecture
from zoo.checkpoints.configurations import configuration_names
from zoo.data.datasets import DATASETS
from zoo.recipes.configuration import read_config


def upheld(
    claimed: Sequence[str], network: str, split: Split, own: bool = True, every_split: bool = False
) -> tuple[str, ...]:
    """The claimed rows that a number may carry.

    Args:
        claimed: rows that the checkpoint's configuration names.
        network: digest of the architecture that was priced.
        split: what was priced; only whole and verified data count.
        own: whether nothing was changed for the number.
        every_split: whether rows may also be about another split than the configuration's test split.
    """
    if not claimed or not (own and split.verified and split.complete):
        return ()
    found = [config for config in _naming(frozenset(claimed)) if _is_still(config, network, split, every_split)]
    rows = {row for config in found for row in _rows(config)}
    return tuple(row for row in claimed if row in rows)


def _rows(config: Mapping[str, Any]) -> Sequence[str]:
    return config.get("reproduces") or ()


@functools.cache
def _naming(claimed: frozenset[str]) -> tuple[Mapping[str, Any], ...]:
    """The configurations that name one of these rows."""
    configs = (read_config(name) for name in configuration_names() if "/" not in name)
    return tuple(config for config in configs if claimed.intersection(_rows(config)))


def _is_still(config: Mapping[str, Any], network: str, split: Split, every_split: bool) -> bool:
    """Whether an architecture and images are those of a configuration."""
    name, variant, test = split_of(config)
    same = (name, variant) == (split.dataset, split.variant) and (every_split or test == split.split)
    return same and network in architectures(config)


def split_of(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """Data set, variant and test split of a configuration; of its last stage with images, if it has stages."""
    stages = [stage for stage in config.get("stages") or () if isinstance(stage, Mapping)]
    stated = [content.get("data") or {} for content in (config, *stages)]
    *_, data = [{"dataset": "photos"}, *(one for one in stated if isinstance(one.get("dataset"), str))]
    name, variant = images_of(data["dataset"], bool(data.get("binarize")))
    return name, variant, str(data.get("test_split", "test"))


def architectures(config: Mapping[str, Any]) -> Iterator[str]:
    """Digests of the networks that a configuration trains, the last stage's first."""
    for _, spec in reversed(list(networks_of(config))):
        yield architecture(spec)


def images_of(dataset: str, binarize: bool = False) -> tuple[str, str]:
    """Name and variant that prepared files of a data set carry.

    Args:
        dataset: as configurations name it: a data set, with "-RULE" behind it for another than its first split rule.
        binarize: whether each pixel is drawn as black or white.

    Example:
        >>> images_of("imagenet32-small"), images_of("cifar10-full"), images_of("mine.h5")
        (('imagenet32-small', 'old-small'), ('cifar10', 'cifar10'), ('mine.h5', ''))
    """
    for name, spec in DATASETS.items():
        for number, (rule_name, rule) in enumerate(spec.rules.items()):
            if dataset in ([name] if number == 0 else []) + [f"{name}-{rule_name}"]:
                variant = rule.variant or spec.variant or name
                return name, f"{variant}-binarised" if binarize else variant
    return dataset, ""
