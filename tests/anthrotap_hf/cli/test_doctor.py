"""`anthrotap doctor`: what is broken on purpose is found, with a hint how to fix it."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anthrotap_hf.cli import doctor_checks as doctor
from anthrotap_hf.cli.doctor_checks import Finding, examine
from anthrotap_hf.cli.main import app


@pytest.fixture(autouse=True)
def _places(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANTHROTAP_REPO", raising=False)
    monkeypatch.delenv("ANTHROTAP_BODY_MODELS", raising=False)


def found(name: str) -> Finding:
    return next(finding for finding in examine(online=False) if finding.name == name)


def run(*arguments: str):
    return CliRunner().invoke(app, ["doctor", "--offline", *arguments])


def test_a_sound_installation_has_no_problem():
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "no problem"
    printed = json.loads(run("--json").stdout)
    assert printed["problems"] == 0
    assert {finding["group"] for finding in printed["findings"]} == set(doctor.GROUPS)
    assert all(finding["fix"] for finding in printed["findings"] if finding["state"] == "note")


def test_a_check_creates_no_files(tmp_path):
    run()
    assert not (tmp_path / "cache").exists()


def test_a_dataset_that_is_not_there_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("ANTHROTAP_REPO", str(tmp_path / "no/such/labels"))
    result = run()
    assert result.exit_code == 1
    assert "is neither a folder nor a Hub id" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 problem"
    assert json.loads(run("--json").stdout)["problems"] == 1


def test_a_cache_that_is_a_file_is_a_problem(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "file/cache"))
    finding = found("labeling")
    assert (finding.state, finding.found) == ("problem", f"{tmp_path / 'file'} is a file, not a folder")
    assert "ANTHROTAP_CACHE" in finding.fix


def test_a_damaged_network_file_is_reported(tmp_path):
    assert found("pose_detection.tflite").found == "not downloaded yet"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/pose_detection.tflite").write_bytes(b"half")
    assert found("pose_detection.tflite").found.endswith("is damaged")


@pytest.mark.parametrize(("name", "megabytes"), [("pose_landmark_full.tflite", 36), ("pose_landmark_heavy.tflite", 41)])
def test_a_network_that_is_not_there_yet_is_reported_with_its_size(name, megabytes):
    missing = found(name)
    assert (missing.state, missing.found) == ("note", "not downloaded yet")
    assert missing.fix == f"nothing: `anthrotap label` downloads it ({megabytes} MB, once)"


def test_a_body_model_is_found_where_users_put_it(tmp_path, monkeypatch):
    missing = found("SMPL")
    assert missing.state == "note"
    assert "https://smpl.is.tue.mpg.de" in missing.fix
    folder = tmp_path / "bodies/smpl"
    folder.mkdir(parents=True)
    (folder / "SMPL_FEMALE.pkl").write_bytes(b"")
    monkeypatch.setenv("ANTHROTAP_BODY_MODELS", str(tmp_path / "bodies"))
    assert found("SMPL").found == str(folder / "SMPL_FEMALE.pkl")


def distribution(folder: Path, name: str, version: str) -> None:
    """Install a package of that name, as far as pip's records go."""
    records = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    records.mkdir(parents=True)
    (records / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_two_opencvs_are_a_problem(tmp_path, monkeypatch):
    distribution(tmp_path / "site", "opencv-python", "4.12.0")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    finding = found("OpenCV")
    assert finding.state == "problem"
    assert finding.fix.startswith("pip uninstall -y opencv-python opencv-python-headless")


def test_a_package_of_a_version_that_does_not_fit_is_a_problem(tmp_path, monkeypatch):
    distribution(tmp_path / "site", "gradio", "3.1")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    finding = found("app")
    assert finding.state == "problem"
    assert "is required, 3.1 is installed" in finding.found


def test_an_extra_that_is_missing_is_named_with_its_command(monkeypatch):
    version = metadata.version

    def without(name: str) -> str:
        if name == "numba":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    for extra in ("builder", "benchmarks"):  # which has builder's packages too
        finding = found(extra)
        assert finding.state == "note"
        assert "numba" in finding.found
        assert finding.fix == f"pip install 'anthrotap[{extra}]'"


def test_a_package_that_does_not_start_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "COMPILED", {"torch": "anthrotap_hf.no_such_module"})
    finding = next(f for f in examine(online=False) if f.name == "torch" and f.state == "problem")
    assert "fails to import" in finding.found


def test_a_full_disk_is_reported(monkeypatch):
    usage = doctor.shutil.disk_usage
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(path)._replace(free=10**6))
    finding = found("temporary")
    assert finding.state == "note"
    assert "TMPDIR" in finding.fix


def test_without_pip_it_says_so(monkeypatch):
    def none(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", none)
    assert found("packages").found == "anthrotap"


def test_a_proxy_s_page_is_no_account(monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import httpx

    class Portal:
        def get(self, url: str, **_: object) -> httpx.Response:
            return httpx.Response(200, text="<html>log in</html>")

    monkeypatch.setattr(huggingface_hub, "get_session", Portal)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    account = next(finding for finding in examine() if finding.name == "account")
    assert (account.state, account.found) == ("note", "what answers at that address is not a Hub")


def test_exceptions_in_a_check_are_findings(monkeypatch):
    def broken(online: bool):
        yield from ()
        raise AttributeError("a mystery")

    monkeypatch.setitem(doctor.GROUPS, "Devices", broken)
    finding = found("Devices")
    assert finding.state == "problem"
    assert "AttributeError: a mystery" in finding.found
    assert found("address").state == "ok"  # the groups after it are looked at


@pytest.mark.parametrize(("status", "state"), [(401, "problem"), (403, "problem"), (503, "note")])
def test_errors_of_the_hub_are_not_reported_as_a_wrong_token(monkeypatch, status, state):
    import huggingface_hub
    from huggingface_hub.utils import httpx

    class Hub:
        def get(self, url: str, **_: object) -> httpx.Response:
            return httpx.Response(status)

    monkeypatch.setattr(huggingface_hub, "get_session", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    assert next(finding for finding in examine() if finding.name == "account").state == state


def test_passwords_are_not_shown(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://bob:secret@hub.example")
    assert found("address").found == "https://hub.example"
