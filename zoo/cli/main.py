"""Entry point: finds the command by name, imports only its module, and turns user errors into one line.

Nothing heavy is imported here, so `zoo --help` answers at once.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from zoo import __version__
from zoo.allocator import tune_allocator
from zoo.errors import UserError, closest

EXIT_USER_ERROR = 2
EXIT_INTERNAL_ERROR = 1


class Command(NamedTuple):
    """Where a command lives. The function takes the arguments behind the command's name."""

    module: str
    function: str
    summary: str


COMMANDS: dict[str, Command] = {
    "data": Command("zoo.cli.data", "run", "list, prepare and verify data sets"),
    "fit": Command("zoo.cli.fit", "run", "train a model from a configuration file"),
    "validate": Command("zoo.cli.evaluate", "validate", "price the validation split"),
    "test": Command("zoo.cli.evaluate", "test", "price every image of a split once and append a record"),
    "predict": Command("zoo.cli.evaluate", "predict", "write the price of each image to a file"),
    "bench": Command("zoo.cli.bench", "run", "tables of published beside measured numbers; the demo"),
    "sample": Command("zoo.cli.sample", "run", "draw images from a model"),
    "reconstruct": Command("zoo.cli.reconstruct", "run", "keep some latents of an image, draw the others"),
    "interpolate": Command("zoo.cli.interpolate", "run", "walk between two images through latent space"),
    "traverse": Command("zoo.cli.traverse", "run", "vary one group of latents"),
    "outpaint": Command("zoo.cli.outpaint", "run", "continue an image beyond its border"),
    "compress": Command("zoo.cli.compress", "run", "code images losslessly into one file"),
    "decompress": Command("zoo.cli.decompress", "run", "get the images back, bit for bit"),
    "import": Command("zoo.cli.import_checkpoint", "run", "turn an official checkpoint into ours"),
}


def usage() -> str:
    """The text of `zoo --help`."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: zoo [--debug] COMMAND [ARGUMENTS]\n\n"
        "Likelihood models of images side by side: train, price, sample and code them.\n\n"
        f"commands:\n{rows}\n\n"
        "options:\n"
        "  --help     show this text; `zoo COMMAND --help` shows a command's own\n"
        "  --version  show the version\n"
        "  --debug    show the traceback of an error\n\n"
        "`zoo bench --suite demo` shows everything on bundled photographs."
    )


def find(name: str) -> Command:
    """The command of that name.

    Raises:
        UserError: no such command.
    """
    if name not in COMMANDS:
        raise UserError(f"zoo: no command '{name}': {closest(name, COMMANDS)}")
    return COMMANDS[name]


def load(command: Command) -> Callable[[list[str]], int | None]:
    """Import a command's module and return its function."""
    return getattr(importlib.import_module(command.module), command.function)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name (default: those of the process).

    Returns:
        Exit status: 0, 2 after an error the user can put right, 1 after any other.
    """
    # Busy-waiting OpenMP threads slow every other process of the machine; must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Lightning's own use of jsonargparse, nothing a user could change.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    tune_allocator()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"zoo {__version__}")
        return 0
    try:
        return load(find(arguments[0]))(arguments[1:]) or 0
    except KeyboardInterrupt:
        if debug:
            raise
        print("zoo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone (`zoo ... | head`)
        return 0
    except (UserError, OSError) as error:
        if debug:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception as error:
        if debug:
            raise
        name = type(error).__name__
        print(f"internal error: {name}: {one_line(error)} (repeat with --debug for the traceback)", file=sys.stderr)
        return EXIT_INTERNAL_ERROR


def one_line(error: Exception) -> str:
    """An error's message without line breaks; errors of the system name their file."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: {(error.strerror or type(error).__name__).lower()}; check the path and its permissions"
        )
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
