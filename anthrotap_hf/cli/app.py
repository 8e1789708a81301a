"""`anthrotap app`: the web page, on this machine."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from anthrotap_hf.cli.common import Device, Models, cli_errors, fail


def app(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860 on.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A dataset to browse: a folder of labels, or a Hub id. May be repeated."),
    ] = None,
    models: Models = None,
    device: Device = "cpu",
    max_megabytes: Annotated[int, typer.Option(min=1, help="Largest upload.")] = 100,
    max_seconds: Annotated[int, typer.Option(min=1, help="Longest video.")] = 20,
    max_jobs: Annotated[int, typer.Option(min=1, help="Videos an hour of one visitor's address.")] = 30,
    dataset_token: Annotated[
        bool,
        typer.Option(
            "--dataset-token",
            help="Let visitors read what your Hub token can read. Default: datasets that you name, and public ones.",
        ),
    ] = False,
) -> None:
    """Open a page in the browser: track points by a click, label people, compare trackers, browse a dataset.

    Trackers given by --model are offered besides the bundled and the released ones (`anthrotap trackers`). Those are
    downloaded when they are first used; a page for others offers the ones that are on this machine.

    Example: anthrotap app --dataset labels
    """
    # What follows imports for seconds.
    print("The page is starting ...", file=sys.stderr, flush=True)
    from anthrotap_hf.app import build_app, launch_options
    from anthrotap_hf.pipelines import BUNDLED, check_tracker_name
    from anthrotap_hf.utils.devices import check_device
    from anthrotap_hf.utils.errors import AnthroTapError, missing_extra
    from anthrotap_hf.utils.hub_names import may_be_loaded
    from anthrotap_hf.utils.stop_signals import uninterrupted

    try:
        from anthrotap_hf.app.page import AppSettings, Limits
    except ImportError as error:
        fail(str(missing_extra(error, "app")))
    with cli_errors(Path.cwd(), interrupted="the page is closed"):
        check_device(device)
        for argument, names in (("dataset", dataset), ("model", models)):
            for name in names or ():
                if argument == "model":
                    check_tracker_name(name)
                if Path(name).expanduser().is_file() or not (argument == "model" or may_be_loaded(name)):
                    reason = "no such folder, and not a Hub id, which is user/name"
                    raise AnthroTapError(reason, path=name, argument=argument)
        settings = AppSettings(
            models=_named([*map(str, BUNDLED.values()), *(models or [])], list(BUNDLED)),
            datasets=tuple(dataset or ()),
            device=device,
            limits=Limits(max_megabytes, max_seconds, max_jobs),
            hosts=(host,),
            # A page for others may stand behind a proxy, or have any name.
            any_host=host in ("0.0.0.0", "::"),
            dataset_token=dataset_token,
        )
        blocks = build_app(settings)
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                **launch_options(blocks),
            )
        except OSError as error:  # Gradio's text is about variables of its own
            reason = f"{port or 'from 7860 on'}: no port is free at {host}"
            raise AnthroTapError(reason, hint="choose another", argument="port") from error
        print(f"{blocks.local_url} (Ctrl-C closes it); correct tracks at {blocks.local_url}edit", flush=True)
        try:
            threading.Event().wait()
        finally:
            with uninterrupted():
                blocks.close(verbose=False)
                blocks.end()


def _named(models: list[str], names: list[str]) -> dict[str, str]:
    """Return trackers by the names on the page: the last part of a folder, a Hub id as it is."""
    from anthrotap_hf.utils.errors import AnthroTapError

    named: dict[str, str] = {}
    for number, model in enumerate(models):
        name = names[number] if number < len(names) else Path(model).name if Path(model).exists() else model
        if name in named:
            reason = f"another tracker is called {name}"
            raise AnthroTapError(reason, path=model, hint="rename the folder", argument="model")
        named[name] = model
    return named
