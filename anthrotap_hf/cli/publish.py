"""`anthrotap publish`: publish a dataset or a tracker on the Hub with its card, private by default."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anthrotap_hf.cli.common import Json, cli_errors, print_error, print_json
from anthrotap_hf.utils.errors import AnthroTapError

if TYPE_CHECKING:
    from anthrotap_hf.hub.upload import Publication

app = typer.Typer(help="Publish a dataset or a tracker on the Hugging Face Hub.", no_args_is_help=True)

INTERRUPTED = "the Hub keeps what it has received: the same command resumes"

Repo = Annotated[str, typer.Argument(help="Its name on the Hub: user/name, or a name of your own.", metavar="REPO")]
License = Annotated[
    str | None,
    typer.Option(
        help="License of the labels or weights. Default: cc-by-4.0 for labels; for weights that of those they were "
        "trained from, or apache-2.0; cc-by-nc-4.0 where a component is for research only."
    ),
]
Public = Annotated[bool, typer.Option("--public", help="Let everybody see it. Default: only you.")]
Tag = Annotated[str | None, typer.Option(help="A name for this version, which users can pin: v1.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be published; do not ask the Hub.")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Also replace files of the repository that AnthroTAP did not publish."),
]


@app.callback()
def main() -> None:
    """Publish a dataset or a tracker on the Hugging Face Hub.

    Log in with `hf auth login`, or set HF_TOKEN. The same command resumes a broken upload.
    """


@app.command()
def dataset(
    folder: Annotated[Path, typer.Argument(help="A folder of `anthrotap build` or `label`.", metavar="DIR")],
    repo: Repo,
    video_licenses: Annotated[
        str | None,
        typer.Option(
            help="License that allows to redistribute the videos: cc0-1.0, cc-by-4.0, ...; "
            "or a .csv of video,license,attribution.",
            metavar="LICENSE|FILE.csv",
        ),
    ] = None,
    attribution: Annotated[
        str | None, typer.Option(help="Whom to credit for all videos, as cc-by-... requires.")
    ] = None,
    license: License = None,
    people: Annotated[
        str | None,
        typer.Option(
            help="What is known of the consent of the people in the videos, and where to write; for the card."
        ),
    ] = None,
    public: Public = False,
    tag: Tag = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Publish a dataset: shards, manifest, and a card with its statistics, licenses and a picture.

    Example: anthrotap publish dataset dataset me/dancers --video-licenses cc0-1.0 --dry-run
    """
    from anthrotap_hf.hub.dataset import prepare_dataset
    from anthrotap_hf.hub.licenses import VideoLicenses

    with cli_errors(folder, INTERRUPTED):
        if video_licenses is None and attribution is not None:
            raise AnthroTapError("goes with --video-licenses", argument="attribution")
        table = None if video_licenses is None else VideoLicenses.read(video_licenses, attribution)
        publication = prepare_dataset(folder, repo, license=license, video_licenses=table, people=people, public=public)
        _publish(publication, repo, public, tag, overwrite, dry_run, as_json)


@app.command()
def model(
    folder: Annotated[
        Path, typer.Argument(help="A tracker: a folder of `anthrotap train` or `convert`.", metavar="DIR")
    ],
    repo: Repo,
    card: Annotated[
        str | None,
        typer.Option(help="For released weights: anthro-locotrack-small, anthro-locotrack-base, anthro-tapnext."),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A report of `anthrotap evaluate` on these weights, for the card. May be repeated."),
    ] = None,
    license: License = None,
    about: Annotated[str | None, typer.Option(help="A sentence or two for the card.")] = None,
    public: Public = False,
    tag: Tag = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Publish a tracker: its weights, the code that runs it without this package, and a card.

    Example: anthrotap publish model runs/mine/model me/tracker --results evaluation/tapvid-davis-first.json --dry-run
    """
    from anthrotap_hf.hub.model import CARDS, prepare_model
    from anthrotap_hf.pipelines import BUNDLED

    with cli_errors(folder, INTERRUPTED):
        bundled = BUNDLED.get(str(folder))
        if bundled is not None and folder.is_dir():
            reason = "both a bundled tracker and a folder"
            raise AnthroTapError(reason, path=folder, hint="give the folder's whole path")
        if bundled is not None and card is None and str(folder) in CARDS:
            card = str(folder)
        with tempfile.TemporaryDirectory(prefix="anthrotap-publish-") as staging:
            publication = prepare_model(
                bundled or folder,
                Path(staging),
                repo,
                card=card,
                license=license,
                reports=results or (),
                about=about,
            )
            _publish(publication, repo, public, tag, overwrite, dry_run, as_json)


def _publish(
    publication: Publication,
    repo: str,
    public: bool,
    tag: str | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Upload, unless it is a dry run; print what was or would be published."""
    from anthrotap_hf.hub.upload import upload

    for note in publication.notes:
        print_error(note, "yellow")
    sizes = publication.sizes()
    done = None if dry_run else upload(publication, repo, public, tag, overwrite)
    if as_json:
        summary = {
            "repo": repo,
            "kind": publication.kind,
            "url": done and done.url,
            "commit": done and done.commit,
            "tag": tag,
            "public": public,
            "files": sizes,
            "skipped": publication.skipped,
            "card": publication.card,
        }
        print_json(summary)
        return
    visibility = "public" if public else "private"
    if done is None:
        print(publication.card)
        print(f"would publish the {publication.kind} {repo}, {visibility}:")
        for name, size in sizes.items():
            print(f"  {_megabytes(size):>10}  {name}")
        if publication.skipped:
            print(f"would not publish: {', '.join(publication.skipped)}")
        return
    print(f"{done.url}: {len(sizes)} files, {_megabytes(sum(sizes.values()))}, {visibility}")
    print(f"pin this version: {repo}@{tag or done.commit[:12]}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 50_000 else f"{size / 1e3:,.1f} kB"
