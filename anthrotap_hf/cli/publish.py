"""`anthrotap publish`: a dataset or a tracker onto the Hub, with its card; private unless it is said otherwise."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anthrotap_hf.cli.common import cli_errors, print_error, print_json

if TYPE_CHECKING:
    from anthrotap_hf.hub.upload import Publication

app = typer.Typer(help="Publish a dataset or a tracker on the Hugging Face Hub.", no_args_is_help=True)

LEFT = "the Hub keeps what it has got: the same command goes on"

Repo = Annotated[
    str, typer.Argument(help="Its name on the Hub: user/name, or a name of your own.", metavar="REPO")
]
Public = Annotated[bool, typer.Option("--public", help="Let everybody see it. Default: only you.")]
Tag = Annotated[str | None, typer.Option(help="A name for this version, for readers to pin: v1.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go up; ask the Hub nothing.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files of a repository that AnthroTAP did not publish.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]


@app.callback()
def main() -> None:
    """Publish a dataset or a tracker on the Hugging Face Hub.

    Log in by `hf auth login`, or set HF_TOKEN. Type a broken command again: it goes on where it was.
    """


@app.command()
def dataset(
    folder: Annotated[Path, typer.Argument(help="What `anthrotap build` or `label` wrote.", metavar="DIR")],
    repo: Repo,
    video_licenses: Annotated[
        str | None,
        typer.Option(
            help="Under which license the videos may be passed on: cc0-1.0, cc-by-4.0, ...; "
            "or a .csv of video,license,attribution.",
            metavar="LICENSE|FILE.csv",
        ),
    ] = None,
    attribution: Annotated[
        str | None, typer.Option(help="Whom cc-by... asks to name, for all videos.")
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(
            help="Of the labels. Default: cc-by-4.0; cc-by-nc-4.0 if made with parts for research only."
        ),
    ] = None,
    people: Annotated[
        str | None,
        typer.Option(
            help="What is known of the consent of those who are seen, and where to write; for the card."
        ),
    ] = None,
    public: Public = False,
    tag: Tag = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """A dataset: shards, manifest, and a card with its statistics, licenses and a picture.

    Example: anthrotap publish dataset dataset me/dancers --video-licenses cc0-1.0 --dry-run
    """
    from anthrotap_hf.hub.dataset import prepare_dataset
    from anthrotap_hf.hub.licenses import VideoLicenses

    with cli_errors(folder, LEFT):
        if video_licenses is None and attribution is not None:
            raise ValueError("--attribution goes with --video-licenses")
        table = None if video_licenses is None else VideoLicenses.read(video_licenses, attribution)
        publication = prepare_dataset(
            folder, repo, license=license, video_licenses=table, people=people, public=public
        )
        _publish(publication, repo, public, tag, overwrite, dry_run, as_json)


@app.command()
def model(
    folder: Annotated[
        Path, typer.Argument(help="A tracker: what `anthrotap train` or `convert` wrote.", metavar="DIR")
    ],
    repo: Repo,
    card: Annotated[
        str | None,
        typer.Option(
            help="For released weights: anthro-locotrack-small, anthro-locotrack-base, anthro-tapnext."
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="A report of `anthrotap evaluate` on these weights, for the card; may be repeated."
        ),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(
            help="Of the weights. Default: apache-2.0; cc-by-nc-4.0 if learned from what is for research only."
        ),
    ] = None,
    about: Annotated[str | None, typer.Option(help="A sentence or two for the card.")] = None,
    public: Public = False,
    tag: Tag = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """A tracker: its weights, the code to run it without this package, and a card.

    Example: anthrotap publish model runs/mine/model me/my-tracker --results judged/tapvid-davis-first.json --dry-run
    """
    from anthrotap_hf.hub.model import CARDS, prepare_model
    from anthrotap_hf.pipelines import BUNDLED

    with cli_errors(folder, LEFT):
        bundled = BUNDLED.get(str(folder))
        if bundled is not None and folder.is_dir():
            raise ValueError(
                f"{folder}: a tracker that comes along is called so, and a folder here: name it by its whole path"
            )
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
    """Upload, or show what would go up; and say so."""
    from anthrotap_hf.hub.upload import upload

    for note in publication.notes:
        print_error(note, "yellow")
    sizes = dict(publication.sizes())
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
            "stays": publication.stays,
            "card": publication.card,
        }
        print_json(summary)
        return
    if done is None:
        print(publication.card)
        print(
            f"would go up to the {publication.kind} {repo}, {'for everybody to see' if public else 'private'}:"
        )
        for name, size in sizes.items():
            print(f"  {_megabytes(size):>10}  {name}")
        if publication.stays:
            print(f"would stay here: {', '.join(publication.stays)}")
        return
    print(
        f"{done.url}: {len(sizes)} files, {_megabytes(sum(sizes.values()))}, {'public' if public else 'private'}"
    )
    print(f"pin this version: {repo}@{tag or done.commit[:12]}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 50_000 else f"{size / 1e3:,.1f} kB"
