"""The command ``artemis``: what an operator does beside running a node."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from artemis.api.convert import output
from artemis.api.convert.draft import Choices, ConvertError, Draft
from artemis.api.convert.java import convert_java
from artemis.api.convert.properties import read_properties
from artemis.api.convert.rust import convert_rust
from artemis.api.serve import EXIT_USAGE

PROGRAM = "artemis"
FILE_BYTES_MAX = 1 << 20
_CONTEXT = {"max_content_width": 120, "help_option_names": ["-h", "--help"]}


@click.group(PROGRAM, context_settings=_CONTEXT)
@click.version_option(version("artemis-registry"), prog_name=PROGRAM)
def command() -> None:
    """Tools for an Artemis service registry. A node is run by artemis-node."""


@command.command("convert-config", short_help="Make a file for artemis-node of one of an earlier server.")
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUTPUT", type=click.Path(path_type=Path))
@click.option("--also", multiple=True, type=click.Path(path_type=Path), help="Another .properties file of the server.")
@click.option("--advertise", metavar="URL", help="URL of this node; also says which of the listed members it is.")
@click.option("--secret-file", metavar="PATH", help="File with the secret that members share.")
@click.option("--raft-port-offset", type=int, metavar="N", help="A member's Raft port is its HTTP port plus this.")
@click.option("--force", is_flag=True, help="Overwrite OUTPUT.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def convert_config(
    source: Path,
    target: Path,
    also: tuple[Path, ...],
    advertise: str | None,
    secret_file: str | None,
    raft_port_offset: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a configuration of an earlier Artemis server into one for artemis-node.

    INPUT is a .properties file of a Java server or a .toml file of the Rust server. Of the Java server give both
    files: application.properties with region and zone, and --also artemis.properties.

    Every key that has no counterpart is named, with the reason.
    """
    choices = Choices(advertise=advertise, secret_file=secret_file, raft_port_offset=raft_port_offset)
    if any(_same_file(target, path) for path in (source, *also)):
        raise ConvertError(f"{target}: is the INPUT; give another OUTPUT")
    draft = _converted(source, also, choices)
    output.check(draft)
    output.write(target, output.text(draft), force=force)
    click.echo(json.dumps(output.report(draft, target), indent=2) if as_json else output.summary(draft, target))


def _converted(source: Path, also: tuple[Path, ...], choices: Choices) -> Draft:
    kinds = {".properties": "Java .properties", ".toml": "Rust TOML"}
    if source.suffix.lower() not in kinds:
        raise ConvertError(f"{source}: must end in .properties (Java server) or .toml (Rust server)")
    for path in also:
        if path.suffix.lower() != ".properties" or source.suffix.lower() != ".properties":
            raise ConvertError(f"--also {path}: only several .properties files make one configuration")
    draft = Draft(str(source), kinds[source.suffix.lower()], choices)
    if source.suffix.lower() == ".toml":
        convert_rust(draft, _read(source))
    else:
        convert_java(draft, [item for path in (source, *also) for item in read_properties(_read(path), str(path))])
    return draft


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise ConvertError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(data) > FILE_BYTES_MAX:
        raise ConvertError(f"{path}: is larger than {FILE_BYTES_MAX} bytes")
    return data


def _same_file(target: Path, source: Path) -> bool:
    try:
        return target.samefile(source)
    except OSError:
        return False  # one of the two is not there, or what is wrong with it is said where it is read


def main(args: Sequence[str] | None = None) -> int:
    """Every failure is one line on stderr and an exit code."""
    try:
        command.main(args=args, prog_name=PROGRAM, standalone_mode=False)
    except (click.ClickException, ConvertError) as exc:
        if isinstance(exc, click.exceptions.NoArgsIsHelpError):
            exc.show()
            return EXIT_USAGE
        message = exc.format_message() if isinstance(exc, click.ClickException) else str(exc)
        print(f"{PROGRAM}: error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    return 0
