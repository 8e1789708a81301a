"""The command line as a whole: what holds for every command."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from anthrotap_hf.cli import common
from anthrotap_hf.cli.common import cli_errors
from anthrotap_hf.cli.main import app
from anthrotap_hf.utils.errors import AnthroTapError

OPENS_A_PAGE = [("app",)]


def leaves(command, arguments: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the arguments and the click command of every command."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield arguments, command
    for name in inner or ():
        yield from leaves(inner[name], (*arguments, name))


ROOT = typer.main.get_command(app)
COMMANDS = list(leaves(ROOT))
every_command = pytest.mark.parametrize(
    ("arguments", "command"), COMMANDS, ids=[" ".join(arguments) for arguments, _ in COMMANDS]
)


def anthrotap(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anthrotap_hf.cli.main", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def examples(command) -> list[str]:
    paragraphs = (" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n"))
    return [line.removeprefix("Example: ") for line in paragraphs if line.startswith("Example: ")]


def test_no_arguments_give_help():
    result = CliRunner().invoke(app, [])
    assert "label" in result.output
    assert "Exit codes: 0 done" in " ".join(result.output.split())


def test_the_version_is_printed():
    from importlib.metadata import version

    assert CliRunner().invoke(app, ["--version"]).stdout == f"anthrotap {version('anthrotap')}\n"


@every_command
def test_each_command_has_an_example_that_parses(arguments, command):
    assert examples(command), arguments
    for example in examples(command):
        program, *rest = shlex.split(example)
        assert program == "anthrotap"
        assert tuple(rest[: len(arguments)]) == arguments
        command.make_context(" ".join(arguments), rest[len(arguments) :])  # raises for what it does not know


@every_command
def test_each_command_gives_json(arguments, command):
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (arguments not in OPENS_A_PAGE)


@every_command
def test_each_option_is_explained(arguments, command):
    assert not [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]


IMPOSSIBLE = {
    "label": "no.mp4 --out out",
    "build": "no.mp4 --out out",
    "attach": "no videos --out out",
    "track": "no.mp4 --grid 2 --out out",
    "export": "no.npz --format tapvid --out out.npz",
    "app": "--dataset nosuch",
    "train": "nosuch --out out",
    "convert alltracker": "no.pth out",
    "convert cotracker3": "no.pth out",
    "convert locotrack": "no.ckpt out",
    "convert tapir": "no.pt out",
    "convert tapnext": "no.npz out",
    "convert tokenhmr": "no.ckpt out --tokenizer no.pth --mean-parameters no.npz",
    "evaluate": "--benchmark shards --data no --out out",
    "stats": "no --out out",
    "verify": "no",
    "publish dataset": "no me/no --dry-run",
    "publish model": "no me/no --dry-run",
}


@every_command
def test_impossible_arguments_give_one_line_and_exit_code_2(arguments, command, tmp_path, monkeypatch):
    if arguments in (("doctor",), ("trackers",)):
        pytest.skip("takes no input")
    monkeypatch.chdir(tmp_path)
    as_json = [] if arguments in OPENS_A_PAGE else ["--json"]
    result = CliRunner().invoke(app, [*arguments, *IMPOSSIBLE[" ".join(arguments)].split(), *as_json])
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    # The page says at once that it starts: what it imports takes seconds.
    lines = [line for line in result.stderr.strip().splitlines() if line != "The page is starting ..."]
    assert len(lines) == 1, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_options_give_exit_code_2():
    result = anthrotap("track", "x.mp4", "--nosuch")
    assert result.returncode == 2
    assert "No such option" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "stopped; half of it is kept"),
        (ValueError("a [strange]\n name"), 2, "a [strange] name"),
        (OSError(28, "No space left on device", "x.npz"), 2, "x.npz: No space left on device"),
        (OSError(28, "No space left on device"), 2, "out: No space left on device"),
        (FileNotFoundError("a.mp4: no such file"), 2, "a.mp4: no such file"),
        (FileExistsError("out: is full"), 2, "out: is full; --overwrite replaces it"),
        (FileExistsError(17, "File exists", "out"), 2, "out: File exists"),
        (AnthroTapError("is bad", path="a", hint="go"), 2, "a: is bad; go"),
        (AnthroTapError("is bad", path="a", argument="video_licenses"), 2, "--video-licenses a: is bad"),
        (AnthroTapError("is bad", argument="model"), 2, "--model: is bad"),
    ],
)
def test_errors_that_end_a_command_are_reported_in_one_line(error, code, message, capsys):
    with (
        pytest.raises(typer.Exit) as end,
        cli_errors(Path("out"), interrupted="half of it is kept"),
    ):
        raise error
    assert end.value.exit_code == code
    assert capsys.readouterr().err == f"{message}\n"


def test_bugs_are_not_caught():
    with pytest.raises(ZeroDivisionError), cli_errors(Path("out")):
        _ = 1 / 0


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Return the output on a terminal."""
    mine, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "anthrotap_hf.cli.main", *arguments],
        env={**os.environ, "TERM": "xterm-256color", **environment},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    output = b""
    while True:
        try:
            part = os.read(mine, 4096)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        output += part
    process.wait()
    os.close(mine)
    return output.decode()


RED = "\x1b[31m"


def test_colors_are_for_terminals_alone(tmp_path, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    missing = str(tmp_path / "no")
    assert RED in on_a_terminal("verify", missing)
    assert RED not in on_a_terminal("verify", missing, NO_COLOR="1")
    piped = anthrotap("verify", missing)
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "\x1b" not in anthrotap("--help").stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("anthrotap ex", {"export"}),
        ("anthrotap publish ", {"dataset", "model"}),
        ("anthrotap train tiny-pro", {"tiny-procedural"}),
        ("anthrotap label a.mp4 --recipe anthrotap-", {"anthrotap-ld"}),
        ("anthrotap export x --format c", {"csv", "cotracker", "colmap"}),
        ("anthrotap track a.mp4 --model locotrack-", {"locotrack-base", "locotrack-small", "locotrack-tiny"}),
    ],
)
def test_the_shell_completes(line, offered):
    """By the script that pip installs, under whose name the shell asks."""
    asked = {
        "COMP_WORDS": line.rstrip(),
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_ANTHROTAP_COMPLETE": "complete_bash",
    }
    script = Path(sysconfig.get_path("scripts"), "anthrotap")
    done = subprocess.run([script], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == offered


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from typer.testing import CliRunner; from anthrotap_hf.cli.main import app;"
        "assert CliRunner().invoke(app, ['label', '--help']).exit_code == 0;"
        "print([name for name in ('torch', 'transformers', 'datasets', 'cv2', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_builder_the_line_to_install_is_given(tmp_path):
    """A process in which numba and the like can't be imported."""
    blocked = tmp_path / "numba.py"
    blocked.write_text("raise ModuleNotFoundError(\"No module named 'numba'\", name='numba')\n")
    result = anthrotap("label", "x.mp4", "--out", tmp_path / "out", PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    assert "numba: pip install 'anthrotap[builder]'" in result.stderr
    assert "Traceback" not in result.stderr


SMALL_RUN = [
    word
    for setting in (
        "steps=1",
        "batch_size=1",
        "training.dataloader_num_workers=0",
        "evaluation=null",
        "sources.shapes.sample={num_frames: 4, dilation: 1, num_queries: 4, height: 64, width: 64, min_visible: 1}",
        "sources.shapes.settings={num_frames: 4, height: 64, width: 64, num_tracks: 32}",
    )
    for word in ("--set", setting)
]


def test_the_trainers_output_stays_out_of_the_json(tmp_path):
    done = anthrotap("train", "tiny-procedural", "--out", tmp_path / "run", "--json", *SMALL_RUN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(tmp_path / "run/model")


def test_names_that_hold_lines_and_commands_are_one_line(capsys):
    with pytest.raises(typer.Exit), cli_errors(Path()):
        raise AnthroTapError("can't be read", path="a\n\x1b[31mroot: fine\r.mp4")
    assert capsys.readouterr().err == "a ?[31mroot: fine .mp4: can't be read\n"


def test_a_log_has_a_line_now_and_then_about_a_long_run(capsys, monkeypatch):
    monkeypatch.setattr(common, "LOG_SECONDS", 0.0)
    with common.progress_bars() as on_progress:
        on_progress("videos", 1, 3, "b.mp4: flowchain")
    assert "videos: 1 of 3 b.mp4: flowchain" in capsys.readouterr().err
