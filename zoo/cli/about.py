"""`zoo configs`, `zoo version` and `zoo env`: what comes with this installation. Imports no torch by itself."""

import importlib.metadata
import os
import platform
import re
import sys

PACKAGES = (
    "torch",
    "lightning",
    "jsonargparse",
    "numpy",
    "h5py",
    "safetensors",
    "constriction",
    "pillow",
    "tensorboard",
)
VARIABLES = (
    "ZOO_DATA",
    "ZOO_KEEP_MEMORY",
    "ZOO_PLUGINS",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "CUDA_VISIBLE_DEVICES",
)


def list_configs(*, only: str = "") -> None:
    """List the configurations that come with the package; `zoo fit --config NAME` trains one.

    Args:
        only: show names that contain this.
    """
    from zoo.checkpoints.configurations import configuration_names, find_configuration

    names = [name for name in configuration_names() if only in name]
    width = max(map(len, names), default=0)
    for name in names:
        first = find_configuration(name).read_text(encoding="utf-8").partition("\n")[0]
        about = re.split(r"(?<=[.!?:;])\s", first.lstrip("# "))[0] if first.startswith("#") else ""
        print(f"{name:<{width}}  {about}".rstrip())


def show_config(name: str) -> None:
    """Print a configuration with its comments: the sources of all values.

    Args:
        name: of a configuration that comes with the package, or a file.
    """
    from zoo.checkpoints.configurations import find_configuration

    sys.stdout.write(find_configuration(name).read_text(encoding="utf-8"))


def version() -> None:
    """Print the version."""
    from zoo import __version__

    print(f"zoo {__version__}")


def environment() -> None:
    """Print versions, processor, accelerators and folders, for reports of problems."""
    from zoo import __version__
    from zoo.data.locate import data_home

    rows = {"zoo": __version__, "python": platform.python_version(), "system": platform.platform()}
    rows |= {name: _version_of(name) for name in PACKAGES}
    rows |= {"processors": str(os.cpu_count()), "accelerators": _accelerators(), "data": str(data_home())}
    rows |= {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _accelerators() -> str:
    """Accelerators that torch sees."""
    try:
        import torch
    except ImportError:
        return "unknown, torch is missing"
    cuda = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ", ".join([*cuda, *(["mps"] if torch.backends.mps.is_available() else [])]) or "none"
