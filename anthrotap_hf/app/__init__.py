"""A page to look at: points followed through a video, people labeled, datasets browsed; `anthrotap app`, a Space."""

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

SWEEP = 600, 3600  # seconds: how often files that nobody owns are looked for, and how old they must be


def build_app(settings: AppSettings | None = None) -> gr.Blocks:
    """The page; `launch_options` are what its `launch` needs. All files of visitors are below one temporary folder,
    which goes when Python ends.

    Raises:
        ImportError: if Gradio is not installed, with the way to get it.
    """
    # Before Gradio is imported: it calls home otherwise, and each component remembers where its files go.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    root = Path(tempfile.mkdtemp(prefix="anthrotap-app-"))
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    try:
        import gradio as gr
    except ImportError as error:
        root.rmdir()
        raise missing_extra(error, "app") from error
    from anthrotap_hf.app.browsing import browsing_tab
    from anthrotap_hf.app.labeling import labeling_tab
    from anthrotap_hf.app.page import AppSettings, Page
    from anthrotap_hf.app.style import HEAD
    from anthrotap_hf.app.tracking import tracking_tab
    from anthrotap_hf.app.uploads import Visitors
    from anthrotap_hf.app.worker import Worker

    worker = Worker()
    page = Page(settings or AppSettings(), worker, Visitors(root / "visitors", worker))

    def end() -> None:
        worker.close()
        shutil.rmtree(root, ignore_errors=True)

    atexit.register(end)

    with gr.Blocks(title="AnthroTAP", analytics_enabled=False, delete_cache=SWEEP) as blocks:
        gr.HTML(HEAD)
        with gr.Tab("Track points"):
            tracking_tab(page)
        with gr.Tab("Label people"):
            labeling_tab(page)
        with gr.Tab("Browse a dataset"):
            browsing_tab(page)
        blocks.unload(page.leave)
    blocks.page = page  # whoever runs it may look at its visitors
    return blocks.queue(max_size=40)


def launch_options(settings: AppSettings | None = None) -> dict[str, Any]:
    """What to give `launch`: looks, the limit of an upload, and nothing that calls another host."""
    from anthrotap_hf.app.page import AppSettings
    from anthrotap_hf.app.style import CSS, theme

    settings = settings or AppSettings()
    return {
        "theme": theme(),
        "css": CSS,
        "max_file_size": settings.limits.megabytes * 10**6,
        "footer_links": [],
        "ssr_mode": False,
        "share": False,
    }
