"""Entry point: finds the command by name, imports only its module, and turns user errors into one line.

Nothing heavy is imported here, so `zoo --help` answers at once.
"""

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from zoo import __version__, plugins
from zoo.allocator import tune_allocator
from zoo.errors import UserError, closest

EXIT_USER_ERROR = 2
EXIT_INTERNAL_ERROR = 1


class Command(NamedTuple):
    """Where the typed function of a command is, as `module:function`."""

    where: str
    summary: str


COMMANDS: dict[str, Command] = {
    "data list": Command("zoo.cli.data:list_datasets", "known data sets, and which are prepared"),
    "data prepare": Command("zoo.cli.data:prepare", "pack a source into one file"),
    "data verify": Command("zoo.cli.data:verify", "compare every byte and pixel with its digests"),
    "data show": Command("zoo.cli.data:show", "shape, provenance, classes, a contact sheet"),
    "configs": Command("zoo.cli.about:list_configs", "list the configurations that come with the package"),
    "configs show": Command("zoo.cli.about:show_config", "print one, with the sources of its values"),
    "fit": Command("zoo.cli.fit:fit", "train a model from a configuration file"),
    "validate": Command("zoo.cli.evaluate:validate", "price the validation split"),
    "test": Command("zoo.cli.evaluate:price", "price every image of a split once and append a record"),
    "predict": Command("zoo.cli.evaluate:predict", "write the price of each image to a file"),
    "bench": Command("zoo.cli.bench:bench", "tables of published beside measured numbers; the demo"),
    "measure": Command("zoo.cli.measure:measure", "answer a question about a checkpoint and append a record"),
    "sample": Command("zoo.cli.sample:sample", "draw images from a model"),
    "reconstruct": Command("zoo.cli.reconstruct:reconstruct", "keep some latents of an image, draw the others"),
    "figure banding": Command("zoo.cli.figures:banding", "images and their reconstructions at 5 and 8 bits, by model"),
    "interpolate": Command("zoo.cli.interpolate:interpolate", "walk between two images through latent space"),
    "traverse": Command("zoo.cli.traverse:traverse", "vary one group of latents"),
    "outpaint": Command("zoo.cli.outpaint:outpaint", "continue an image beyond its border"),
    "compress": Command("zoo.cli.compress:compress", "code images losslessly into one file"),
    "decompress": Command("zoo.cli.decompress:decompress", "get the images back, bit for bit"),
    "pull": Command("zoo.cli.pull:pull", "fetch a released checkpoint; without a name, list them"),
    "reproduce": Command("zoo.cli.pull:reproduce", "a published cell: weights, data, price, beside the paper"),
    "push": Command("zoo.cli.push:push", "write a checkpoint as a folder with config and model card"),
    "import": Command("zoo.cli.import_checkpoint:import_checkpoint", "turn an official checkpoint into ours"),
    "version": Command("zoo.cli.about:version", "print the version"),
    "env": Command("zoo.cli.about:environment", "print versions, processor, accelerators and folders"),
}
"""Commands by name. A name of two words is one command of a group: `zoo data prepare`."""


def usage(group: str = "") -> str:
    """The text of `zoo --help`, or of `zoo GROUP --help`."""
    chosen = {name: command for name, command in COMMANDS.items() if not group or name.startswith(f"{group} ")}
    width = max(map(len, chosen))
    rows = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in chosen.items())
    if group:
        return (
            f"usage: zoo {group} COMMAND [ARGUMENTS]\n\ncommands:\n{rows}\n\n`zoo {group} COMMAND --help` shows more."
        )
    return (
        "usage: zoo [--debug] COMMAND [ARGUMENTS]\n\n"
        "Likelihood models of images side by side: train, price, sample and code them.\n\n"
        f"commands:\n{rows}\n\n"
        "options:\n"
        "  --help     show this text; `zoo COMMAND --help` shows a command's own\n"
        "  --version  show the version\n"
        "  --debug    show the traceback of an error\n"
        "  --plugins MODULES  trust and import modules of your own, separated by commas\n\n"
        "`zoo bench --suite demo` shows everything on bundled photographs."
    )


def find(words: list[str]) -> tuple[str, list[str]]:
    """The name of the command that the first words give, and the arguments behind it.

    Raises:
        UserError: no such command.
    """
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, words[length:]
    inside = [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if inside:
        raise UserError(f"zoo {words[0]}: no command '{words[1]}'; {closest(words[1], inside)}")
    raise UserError(f"zoo: no command '{words[0]}': {closest(words[0], {name.split()[0] for name in COMMANDS})}")


def load(command: Command) -> Callable[..., Any]:
    """Import a command's module and return its function."""
    module, _, function = command.where.partition(":")
    result: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return result


def run(words: list[str]) -> int:
    """Run the command that the words name."""
    groups = {name.split()[0] for name in COMMANDS if " " in name} - set(COMMANDS)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"zoo {__version__}")
        return 0
    if words[0] in groups and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(usage(words[0]))
        return 0
    from zoo.cli.reader import call

    name, arguments = find(words)
    return call(load(COMMANDS[name]), arguments, name)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name (default: those of the process).

    Returns:
        Exit status: 0, 2 after an error the user can put right, 1 after any other, 130 after SIGINT, 143 after
        SIGTERM.
    """
    # Busy-waiting OpenMP threads slow every other process of the machine; must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Lightning's own use of jsonargparse, nothing a user could change.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    tune_allocator()
    lasting_output()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # modules of the user's own
    if argv is None:
        signal.signal(signal.SIGTERM, _terminated)
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        arguments = [argument for argument in arguments if argument != "--debug"]
        return run(plugins.take_option(arguments))
    except KeyboardInterrupt:
        if debug:
            raise
        print("zoo: interrupted", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        if debug:
            raise
        from zoo.recipes.processes import is_first_process

        if is_first_process() or isinstance(error, OSError):  # the same mistake is said once, not by every process
            print(f"error: {one_line(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception as error:
        if debug:
            raise
        name = type(error).__name__
        print(f"internal error: {name}: {one_line(error)} (repeat with --debug for the traceback)", file=sys.stderr)
        return EXIT_INTERNAL_ERROR


def _terminated(signum: int, frame: Any) -> None:
    """End as an error does, so that nothing half-written is left behind."""
    raise SystemExit(128 + signum)


def one_line(error: Exception) -> str:
    """An error's message without line breaks; errors of the system name their file."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: {(error.strerror or type(error).__name__).lower()}; check the path and its permissions"
        )
    return " ".join(str(error).split())


class _Lasting(io.FileIO):
    """A file descriptor whose reader may go away (`zoo ... | head`): the rest of the output is dropped."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def lasting_output() -> None:
    """Make standard output and error survive a vanished reader, a closed descriptor, and signs they cannot encode."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # `zoo ... >&-`: descriptors that files would otherwise take
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (lives as long as the process)
        elif stream is getattr(sys, f"__{name}__") and not isinstance(getattr(stream, "buffer", None), _Buffer):
            raw = _Lasting(descriptor, "w", closefd=False)
            lines = descriptor == 2 or raw.isatty()
            errors = "backslashreplace"
            setattr(sys, name, io.TextIOWrapper(_Buffer(raw), stream.encoding, errors, line_buffering=lines))


class _Buffer(io.BufferedWriter):
    """The buffer of a lasting stream; known by its type."""


if __name__ == "__main__":
    sys.exit(main())
