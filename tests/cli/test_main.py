"""The dispatcher: quick, complete, and polite about mistakes."""

import json
import subprocess
import sys
import time

import pytest

from zoo.cli.main import COMMANDS, load, main

PROBE = """
import json, sys
from zoo.cli.main import main
status = main({argv})
print(json.dumps([status, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["fti"]])
def test_answers_without_heavy_imports(argv):
    start = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", PROBE.format(argv=argv)], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    _, modules = json.loads(ran.stdout.splitlines()[-1])
    assert not {"torch", "lightning", "jsonargparse", "numpy", "rich", "yaml"} & set(modules)
    assert seconds < 5  # a loose bound for a busy machine; on a quiet one it is about 0.1 s


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and command.summary in shown for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_function(name):
    assert callable(load(COMMANDS[name]))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    assert main([*name.split(), "--help"]) == 0
    assert "usage" in capsys.readouterr().out.lower()


def test_help_of_commands_loads_no_torch():
    names = [*(name for name in COMMANDS if name != "import"), "bench --table nll"]
    code = (
        f"import sys; from zoo.cli.main import main\nfor name in {names}: assert main([*name.split(), '--help']) == 0"
    )
    code += "\nassert not {'torch', 'lightning', 'tensorboard'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_misspelt_command_gets_a_hint_and_status_2(capsys):
    assert main(["fti"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: zoo: no command 'fti': did you mean 'fit'?\n"
    assert captured.out == ""


def test_configurations_are_listed_and_shown(capsys):
    assert main(["configs", "--only", "vdvae_cifar10"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][-1] == "vdvae_cifar10"
    assert main(["configs", "show", "vdvae_cifar10"]) == 0
    assert "class_path: VDVAE" in capsys.readouterr().out
    assert main(["configs", "show", "vdvae_cifar"]) == 2
    assert "did you mean 'vdvae_cifar10'?" in capsys.readouterr().err


def test_environment_names_versions(capsys):
    assert main(["env"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"zoo", "python", "torch", "accelerators", "data"} <= shown.keys()
