"""Images in: prepared files, exact loaders, and the tools that make the files.

`ImageDataModule` is what training and evaluation use; it is imported on demand because it pulls in Lightning.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.data.datamodule import ImageDataModule

__all__ = ["ImageDataModule"]


def __getattr__(name: str) -> Any:
    if name == "ImageDataModule":
        from zoo.data.datamodule import ImageDataModule

        return ImageDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
