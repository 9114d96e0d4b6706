"""Where the published configurations are: the folder `configs` of a clone, `zoo/configs` of an installed wheel."""

from pathlib import Path

from zoo.errors import UserError, closest

PACKAGE = Path(__file__).parents[1]


def configurations_folder() -> Path:
    """The folder of the YAML files that travel with the zoo.

    Raises:
        UserError: the installation has none.
    """
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if (folder / "demo").is_dir():
            return folder
    raise UserError(f"{PACKAGE / 'configs'}: the configurations are missing; install the zoo again")


def configuration_names() -> list[str]:
    """Names that `find_configuration` knows, such as `vdvae_cifar10` and `demo/vdvae_photos_8bit`."""
    folder = configurations_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def find_configuration(name: str | Path) -> Path:
    """The file behind a path or a name.

    Args:
        name: an existing file, or a name with or without `.yaml`: `vdvae_cifar10`, `demo/vdvae_photos_8bit`,
            `vdvae_photos_8bit`.

    Raises:
        UserError: there is none; the nearest name is suggested.

    Example:
        >>> find_configuration("vdvae_cifar10").name
        'vdvae_cifar10.yaml'
    """
    path = Path(name)
    if path.is_file():
        return path
    word = path.as_posix().removesuffix(".yaml").removeprefix("configs/")
    for candidate in (f"{word}.yaml", f"demo/{word}.yaml"):
        if not path.is_absolute() and ".." not in path.parts and (configurations_folder() / candidate).is_file():
            return configurations_folder() / candidate
    near = sorted(str(other) for other in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    raise UserError(f"{name}: no such configuration file; {closest(word, [*configuration_names(), *near])}")
