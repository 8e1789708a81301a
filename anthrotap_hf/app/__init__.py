"""A page that tracks points through a video, labels people, and browses datasets: `anthrotap app`, and a Space."""

from __future__ import annotations

import atexit
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.utils.errors import missing_extra, one_line
from anthrotap_hf.utils.folder_lock import temporary_folder
from anthrotap_hf.utils.stop_signals import uninterrupted

if TYPE_CHECKING:
    import gradio as gr

    from anthrotap_hf.app.page import AppSettings

logger = logging.getLogger(__name__)

# Seconds: how often Gradio looks for files that belong to no visitor, and how old they must be to be deleted.
SWEEP = 600, 3600


def build_app(settings: AppSettings | None = None) -> gr.Blocks:
    """Build the page; `launch_options` are what its `launch` needs.

    All files of visitors are below one temporary folder, which is deleted by `end()` of what is returned, and when
    Python ends; if it is killed, by the next page.

    Raises:
        ImportError: Gradio is not installed; the message tells how to install it.
    """
    # Before Gradio is imported: it calls another host otherwise, and each component remembers where its files go.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # What pages that were killed have left goes now.
    stack = ExitStack()
    root = stack.enter_context(temporary_folder("anthrotap-app"))
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    try:
        import gradio as gr
    except ImportError as error:
        stack.close()
        raise missing_extra(error, "app") from error
    from anthrotap_hf.app.browsing import BrowsingTab
    from anthrotap_hf.app.labeling import LabelingTab
    from anthrotap_hf.app.page import AppSettings, Page
    from anthrotap_hf.app.style import HEAD
    from anthrotap_hf.app.tracking import TrackingTab

    page = Page(settings or AppSettings(), root / "visitors")

    def end() -> None:
        with uninterrupted():
            page.worker.cancel()
            stack.close()

    atexit.register(end)

    class PoliteBlocks(gr.Blocks):
        """Blocks that answer a call that fails in a sentence, without a traceback."""

        async def process_api(self, *args: Any, **options: Any) -> Any:
            try:
                return await super().process_api(*args, **options)
            except gr.Error as error:
                error.print_exception = False
                raise
            except Exception as error:
                logger.debug("a call failed", exc_info=True)
                sentence = f"This can't be done ({type(error).__name__}: {one_line(error)}). Open the page again."
                raise gr.Error(sentence, print_exception=False) from None

    with PoliteBlocks(title="AnthroTAP", analytics_enabled=False, delete_cache=SWEEP) as blocks:
        gr.HTML(HEAD)
        for name, tab in (
            ("Track points", TrackingTab),
            ("Label people", LabelingTab),
            ("Browse a dataset", BrowsingTab),
        ):
            with gr.Tab(name):
                tab(page)
        blocks.unload(page.leave)
    blocks.end, blocks.page = end, page
    return blocks.queue(max_size=40)


def launch_options(blocks: gr.Blocks) -> dict[str, Any]:
    """Return the arguments for `launch` of what `build_app` returned.

    They are the style, the limit of an upload, the editor at /edit, and nothing that calls another host.
    """
    from starlette.middleware import Middleware

    from anthrotap_hf.app.editor.server import Editor
    from anthrotap_hf.app.guard import HostAndOriginGuard, UploadLimit
    from anthrotap_hf.app.style import CSS, theme

    settings = blocks.page.settings
    middleware = [
        Middleware(HostAndOriginGuard, settings.hosts, settings.has_any_name),
        # The folder that `build_app` made.
        Middleware(UploadLimit, Path(os.environ["GRADIO_TEMP_DIR"]), settings.limits.total_bytes),
    ]
    return {
        "theme": theme(),
        "css_paths": CSS,
        "max_file_size": settings.limits.megabytes * 10**6,
        "footer_links": [],
        "ssr_mode": False,
        "share": False,
        "app_kwargs": {"middleware": middleware, "routes": Editor(blocks.page).routes()},
    }
