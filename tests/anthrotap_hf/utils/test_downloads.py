"""Downloads over HTTP on loopback: whole, broken and resumed, replaced, lost."""

from __future__ import annotations

import hashlib

import pytest

from anthrotap_hf.utils import downloads
from anthrotap_hf.utils.downloads import DownloadError, download, pin_of, pin_sha256
from helpers.file_server import running_file_server

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    with running_file_server() as running:
        running.files["/a/net.pt"] = CONTENT
        yield running


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache" / "net.pt"


def others(file):
    """What lies beside a download."""
    return sorted(path.name for path in file.parent.iterdir() if path != file)


def test_a_whole_download_is_told_of_and_its_hash_is_kept(server, file):
    told = []
    download(f"{server.url}/a/net.pt", file, on_bytes=lambda done, total: told.append((done, total)))
    assert file.read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert others(file) == []
    pin_sha256(file, pin_of(file))
    assert pin_of(file).read_text() == f"{SHA256}  net.pt\n"
    assert others(file) == ["net.pt.sha256"]


def test_a_broken_download_goes_on_where_it_broke(server, file):
    server.cuts = [4000, 4000]
    download(f"{server.url}/a/net.pt", file, SHA256)
    assert file.read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=4000-", "bytes=8000-"]


def test_the_next_call_goes_on_where_the_last_one_gave_up(server, file):
    server.cuts = [4000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"4000 of 10240 bytes.*the same command resumes"):
        download(f"{server.url}/a/net.pt", file)
    assert not file.exists()
    download(f"{server.url}/a/net.pt", file)
    assert file.read_bytes() == CONTENT
    assert server.asked[-1] == ("/a/net.pt", "bytes=4000-")
    assert others(file) == []


@pytest.mark.parametrize("with_etag", [True, False])
def test_a_part_of_another_version_is_not_gone_on_with(server, file, with_etag):
    server.with_etag = with_etag
    server.cuts = [4000, 0, 0, 0]
    with pytest.raises(DownloadError):
        download(f"{server.url}/a/net.pt", file)
    server.files["/a/net.pt"] = CONTENT[::-1]
    download(f"{server.url}/a/net.pt", file)
    assert file.read_bytes() == CONTENT[::-1]


def test_a_part_that_was_whole_is_taken(server, file):
    file.parent.mkdir()
    file.with_name("net.pt.part").write_bytes(CONTENT)
    download(f"{server.url}/a/net.pt", file, SHA256)
    assert file.read_bytes() == CONTENT


def test_a_file_with_another_hash_is_not_kept(server, file):
    with pytest.raises(DownloadError, match=f"net.pt: its SHA-256 is {SHA256}, expected 00"):
        download(f"{server.url}/a/net.pt", file, "00")
    assert others(file) == []


def test_a_file_that_was_replaced_since_the_first_download_is_refused(server, file):
    download(f"{server.url}/a/net.pt", file)
    pin_sha256(file, pin_of(file))
    file.unlink()
    server.files["/a/net.pt"] = b"another"
    with pytest.raises(DownloadError, match=r"to accept the new one, delete .*net\.pt\.sha256"):
        download(f"{server.url}/a/net.pt", file)
    pin_of(file).unlink()
    download(f"{server.url}/a/net.pt", file)
    assert file.read_bytes() == b"another"


@pytest.mark.parametrize("address", ["/mnt/mirror/net.pt", "localhost:9/net.pt", "file:///net.pt", "http:///net.pt"])
def test_what_is_no_address_is_an_error(address, file):
    with pytest.raises(DownloadError, match=r"not an address|no host given"):
        download(address, file)


def test_a_moved_file_and_a_server_that_is_not_there_are_told_apart(server, file):
    with pytest.raises(DownloadError, match=r"/b/net\.pt: it is no longer there \(it answers 404\)"):
        download(f"{server.url}/b/net.pt", file)
    with pytest.raises(
        DownloadError, match=r"127\.0\.0\.1:9/net\.pt: can't be downloaded \(.*refused\); check the net"
    ):
        download("http://127.0.0.1:9/net.pt", file)
    assert len(server.asked) == 1
