"""`vvt export`: a built dataset in another project's layout."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def export(
    out: Annotated[str, typer.Argument(help="Folder or URL of a built dataset.")],
    to: Annotated[str, typer.Option(help="Local folder to write to: empty, or of the same export.")],
    layout: Annotated[Literal["vivid"], typer.Option("--format", help="Whose layout.")] = "vivid",
    split: Annotated[Literal["train", "test"], typer.Option(help="Which samples.")] = "train",
    height: Annotated[int, typer.Option(min=16, help="Of the videos, in px, even.")] = 832,
    width: Annotated[int, typer.Option(min=16, help="Of the videos, in px, even.")] = 624,
    densepose: Annotated[bool, typer.Option(help="Write DensePose videos.")] = True,
    on_error: Annotated[
        Literal["raise", "skip"], typer.Option(help="At a damaged sample: stop, or leave it out and count it.")
    ] = "raise",
    workers: Annotated[int, typer.Option(min=1, help="Samples at once, each in a process.")] = 1,
) -> None:
    """Write a dataset in the layout of ViViD, for trainers that read that. Running it again goes on where it stopped.

    Exit status: 0 if all is written, 2 if the dataset, the folder or a sample is not right.
    """
    from pipelines.export_samples import export_vivid

    done = export_vivid(
        out, to, split=split, size=(height, width), densepose=densepose, on_error=on_error, workers=workers
    )
    skipped = f", {done.skipped} skipped as damaged" if done.skipped else ""
    typer.echo(f"{to}: {done.written} sample(s) written, {done.before} there before{skipped}")
