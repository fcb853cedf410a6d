"""imgsync plugins: what is installed."""

from dataclasses import asdict

import click

from imgsync.entrypoints.cli.output import print_json, print_table
from imgsync.entrypoints.cli.runtime import json_option, pass_container
from imgsync.entrypoints.container import Container


@click.command()
@json_option
@pass_container
def plugins(container: Container, as_json: bool) -> None:
    """List the plugins and the entity types and payload formats they register."""
    loaded = container.plugins().plugins
    if as_json:
        print_json([asdict(plugin) for plugin in loaded])
        return
    print_table(
        ("Plugin", "Package", "Entity types", "Payload formats"),
        (
            (
                p.name,
                f"{p.distribution} {p.version}",
                ", ".join(p.entity_types),
                ", ".join(p.payload_formats),
            )
            for p in loaded
        ),
    )
