"""`anthrotap doctor` asks a Hub for the account of the token."""

from __future__ import annotations

import json

import pytest

from helpers.hub_server import WRITER


@pytest.mark.parametrize(
    ("token", "environment", "state", "message"),
    [
        (WRITER, {}, "ok", "me"),
        pytest.param(None, {}, "note", "not logged in", marks=pytest.mark.slow),
        ("hf_wrong", {}, "problem", "the token is not accepted (the Hub answers 401)"),
        pytest.param(
            WRITER,
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "note",
            "the Hub can't be reached",
            marks=pytest.mark.slow,
        ),
        pytest.param(WRITER, {"HF_HUB_OFFLINE": "1"}, "ok", "not asked: HF_HUB_OFFLINE is set", marks=pytest.mark.slow),
    ],
)
def test_the_account_is_reported(anthrotap, token, environment, state, message):
    done = anthrotap("doctor", "--json", token=token, **environment)
    assert done.returncode == (state == "problem"), done.stderr
    finding = next(f for f in json.loads(done.stdout)["findings"] if f["name"] == "account")
    assert finding["state"] == state
    assert finding["found"].startswith(message)
