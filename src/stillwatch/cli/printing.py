"""Plain data on standard output."""

from __future__ import annotations

import click
import msgspec


def print_json(document: object) -> None:
    """Print plain data as JSON.

    Args:
        document: anything that msgspec encodes.
    """
    click.echo(msgspec.json.format(msgspec.json.encode(document)))
