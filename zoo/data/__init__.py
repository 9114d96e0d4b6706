"""Images in: prepared files, exact loaders, and the tools that make the files.

`open_split` gives the images of a split as a checkpoint means them; `ImageDataModule` is what training uses. Both are
imported on demand because they pull in torch and Lightning.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.data.datamodule import ImageDataModule
    from zoo.data.door import open_split

__all__ = ["ImageDataModule", "open_split"]


def __getattr__(name: str) -> Any:
    if name == "ImageDataModule":
        from zoo.data.datamodule import ImageDataModule

        return ImageDataModule
    if name == "open_split":
        from zoo.data.door import open_split

        return open_split
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
