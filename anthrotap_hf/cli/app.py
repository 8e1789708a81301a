"""`anthrotap app`: the page on this machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from anthrotap_hf.cli.common import check_device, cli_errors, fail


def app(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860 on.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A dataset to browse: a folder of labels, or a Hub id. May be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A tracker to offer besides the bundled ones: a folder or Hub id. May be repeated."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1, mps.")] = "cpu",
    max_megabytes: Annotated[int, typer.Option(min=1, help="Largest upload.")] = 100,
    max_seconds: Annotated[int, typer.Option(min=1, help="Longest video.")] = 20,
) -> None:
    """Open a page in the browser: click on points and follow them, label people, compare trackers, browse a dataset.

    Example: anthrotap app --dataset labels
    """
    from anthrotap_hf.app import build_app, launch_options
    from anthrotap_hf.pipelines import BUNDLED
    from anthrotap_hf.utils.errors import missing_extra
    from anthrotap_hf.utils.hub_names import may_be_loaded

    try:
        from anthrotap_hf.app.page import AppSettings, Limits
    except ImportError as error:
        fail(str(missing_extra(error, "app")))
    with cli_errors(Path.cwd(), left="the page is closed"):
        check_device(device)
        for option, places in (("--dataset", dataset), ("--model", model)):
            for place in places or ():
                if Path(place).expanduser().is_file() or not may_be_loaded(place):
                    raise ValueError(f"{option} {place}: no such folder, and no Hub id, which is user/name")
        settings = AppSettings(
            models=_named([*map(str, BUNDLED.values()), *(model or [])], list(BUNDLED)),
            datasets=tuple(dataset or ()),
            device=device,
            limits=Limits(max_megabytes, max_seconds),
        )
        blocks = build_app(settings)
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                **launch_options(settings),
            )
        except OSError as error:  # Gradio's text is about variables of its own
            raise ValueError(
                f"no port is free at {host}: --port names another ({port or 'from 7860 on'})"
            ) from error
        print(f"{blocks.local_url} (Ctrl-C closes it)", flush=True)
        try:
            threading.Event().wait()
        finally:
            blocks.close(verbose=False)


def _named(models: list[str], names: list[str]) -> dict[str, str]:
    """Trackers by the names that the page shows: the last part of a folder, the whole id of a Hub's."""
    named: dict[str, str] = {}
    for number, where in enumerate(models):
        name = names[number] if number < len(names) else Path(where).name if Path(where).exists() else where
        if name in named:
            raise ValueError(f"--model {where}: another tracker is called {name}; rename the folder")
        named[name] = where
    return named
