import os
import subprocess
import sys

from typer.testing import CliRunner

from anthrotap_hf.cli import app


def test_no_words_give_help():
    result = CliRunner().invoke(app, [])
    assert "label" in result.output


def test_without_the_builder_the_line_to_install_is_given(tmp_path):
    """A process in which numba and the like are not to be had."""
    blocked = tmp_path / "scenedetect.py"
    blocked.write_text("raise ModuleNotFoundError(\"No module named 'scenedetect'\", name='scenedetect')\n")
    result = subprocess.run(
        [sys.executable, "-m", "anthrotap_hf.cli", "label", "x.mp4", "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "scenedetect: pip install 'anthrotap[builder]'" in result.stderr
    assert "Traceback" not in result.stderr
