"""A page that tracks points through a video, labels people, and browses datasets: `anthrotap app`, and a Space."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.utils.errors import missing_extra

if TYPE_CHECKING:
    import gradio as gr

    from anthrotap_hf.app.page import AppSettings

# Seconds: how often Gradio looks for files that belong to no visitor, and how old they must be to be deleted.
SWEEP = 600, 3600


def build_app(settings: AppSettings | None = None) -> gr.Blocks:
    """Build the page; `launch_options` are what its `launch` needs.

    All files of visitors are below one temporary folder, which is deleted when Python ends.

    Raises:
        ImportError: Gradio is not installed; the message tells how to install it.
    """
    # Before Gradio is imported: it calls another host otherwise, and each component remembers where its files go.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    root = Path(tempfile.mkdtemp(prefix="anthrotap-app-"))
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    try:
        import gradio as gr
    except ImportError as error:
        root.rmdir()
        raise missing_extra(error, "app") from error
    from anthrotap_hf.app.browsing import BrowsingTab
    from anthrotap_hf.app.labeling import LabelingTab
    from anthrotap_hf.app.page import AppSettings, Page
    from anthrotap_hf.app.style import HEAD
    from anthrotap_hf.app.tracking import TrackingTab

    page = Page(settings or AppSettings(), root / "visitors")

    def end() -> None:
        page.worker.cancel()
        shutil.rmtree(root, ignore_errors=True)

    atexit.register(end)

    with gr.Blocks(title="AnthroTAP", analytics_enabled=False, delete_cache=SWEEP) as blocks:
        gr.HTML(HEAD)
        for name, tab in (
            ("Track points", TrackingTab),
            ("Label people", LabelingTab),
            ("Browse a dataset", BrowsingTab),
        ):
            with gr.Tab(name):
                tab(page)
        blocks.unload(page.leave)
    return blocks.queue(max_size=40)


def launch_options(settings: AppSettings | None = None) -> dict[str, Any]:
    """Return the arguments for `launch`: the style, the limit of an upload, and nothing that calls another host."""
    from anthrotap_hf.app.page import AppSettings
    from anthrotap_hf.app.style import CSS, theme

    settings = settings or AppSettings()
    return {
        "theme": theme(),
        "css_paths": CSS,
        "max_file_size": settings.limits.megabytes * 10**6,
        "footer_links": [],
        "ssr_mode": False,
        "share": False,
    }
