"""Arguments that `anthrotap build` rejects, in one line, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--executor", "kubernetes"], "--executor kubernetes: there is local, slurm, ray"),
        (["--validation", "0.7", "--test", "0.7"], "more than all videos"),
        (["--cluster", "cluster.yaml"], "--cluster goes with --executor slurm or ray"),
        (["--executor", "slurm", "--cluster", "cluster.yaml"], "--cluster cluster.yaml: no such file"),
        (["--set", "mesh_source=file"], "anthrotap label --meshes"),
        (["--set", "color=blue"], "color"),
        (["--recipe", "nothing"], "no recipe 'nothing'"),
        (["--device", "abacus"], "--device abacus: can't be used on this machine"),
        (["--column", "film", "rows.parquet"], "no column 'film'"),
        (["nowhere"], "nowhere: no such file, folder or dataset"),
    ],
)
def test_impossible_arguments_are_rejected(arguments, reason, make_video, tmp_path, monkeypatch):
    pytest.importorskip("datatrove", reason="needs anthrotap[builder]")
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    make_video("a.mp4", shots=[3])
    pq.write_table(pa.table({"id": [1]}), tmp_path / "rows.parquet")
    result = CliRunner().invoke(app, ["build", "a.mp4", "--out", "out", *arguments])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert reason in line
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be(make_video, tmp_path):
    pytest.importorskip("datatrove", reason="needs anthrotap[builder]")
    (tmp_path / "out").write_text("mine")
    result = CliRunner().invoke(app, ["build", str(make_video(shots=[3])), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "is a file, not a folder" in result.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_an_empty_split_and_what_to_do_next_are_told(capsys):
    pytest.importorskip("datatrove", reason="needs anthrotap[builder]")
    from anthrotap_builder.distributed.build import BuildReport
    from anthrotap_hf.cli.build import _print_report

    report = BuildReport(videos=3, rows={"train": 3})
    _print_report(report, Path("dataset"), {"validation": 0.05, "test": 0.0}, as_json=False)
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert "no clip is in the split validation" in line
    assert "--validation 0.05" in line
    assert "next: anthrotap verify dataset; anthrotap train tiny-finetune --data dataset" in printed.out
