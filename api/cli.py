"""The command ``artemis-node``: flags from the table of settings, one-line errors, documented exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import click

from artemis.api.config import ConfigError, Setting, settings
from artemis.api.config_kinds import BOOLEAN
from artemis.api.config_sources import load
from artemis.api.process import run_node
from artemis.api.serve import EXIT_FATAL, EXIT_START, EXIT_USAGE, StartError

PROGRAM = "artemis-node"

ABOUT = """Run one node of an Artemis service registry.

Without peers it is a cluster of one node. A flag beats its environment variable, which beats the TOML file, which
beats the default. Relative paths are relative to the working directory."""

EXIT_CODES = f"""Exit codes: 0 stopped by a signal; {EXIT_START} could not start (address in use; data directory in
use, damaged or not writable); {EXIT_USAGE} wrong flag or setting; {EXIT_FATAL} stopped itself, because its data is gone
or damaged or its state can no longer be trusted. SIGTERM and SIGINT stop the node, a second one at once, with 128 + its
number. SIGHUP is ignored, unless the log goes to a terminal."""


def help_line(setting: Setting) -> str:
    return f"{setting.help} [default: {setting.default or 'empty'}; env: {setting.env}]"


class _GroupedCommand(click.Command):
    """Lists the flags under the headings of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        table = settings()
        for group in dict.fromkeys(setting.group for setting in table):
            with formatter.section(group):
                rows = [records.pop(setting.key) for setting in table if setting.group == group]
                formatter.write_dl([row for row in rows if row is not None])
        with formatter.section("Other"):
            formatter.write_dl([row for row in records.values() if row is not None])


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = []
    for setting in settings():
        if setting.kind is BOOLEAN:
            names = [f"{setting.flag}/--no-{setting.flag[2:]}", setting.key]
            options.append(click.Option(names, default=None, help=help_line(setting)))
        else:
            options.append(
                click.Option([setting.flag, setting.key], metavar=setting.kind.metavar, help=help_line(setting))
            )
    help_text = "TOML file with settings; unknown keys are errors. [default: none; env: ARTEMIS_CONFIG]"
    options.append(click.Option(["--config", "config_file"], metavar="PATH", help=help_text))
    # A decision for one start, so neither the file nor the environment can hold it.
    help_text = "This member's data is gone: take the state from the others, once, and then take part again."
    options.append(click.Option(["--rejoin"], is_flag=True, help=help_text))
    return options


def _run(config_file: str | None, rejoin: bool, **flags: str | bool | None) -> int:
    given = {key: value for key, value in flags.items() if value is not None}
    config = load(given, os.environ, config_file)
    if rejoin and len(config.peers) == 1:
        raise ConfigError("--rejoin: a cluster of one has no other member to take the state from")
    return run_node(config, rejoin=rejoin)


def command() -> click.Command:
    built = _GroupedCommand(
        PROGRAM,
        callback=_run,
        params=_options(),
        help=ABOUT,
        epilog=EXIT_CODES,
        context_settings={"max_content_width": 120, "help_option_names": ["-h", "--help"]},
    )
    return click.version_option(version("artemis-registry"), prog_name=PROGRAM)(built)


def main(args: Sequence[str] | None = None) -> int:
    """Run until a signal. Every failure is one line on stderr and an exit code."""
    try:
        result = command().main(args=args, prog_name=PROGRAM, standalone_mode=False)
    except (click.ClickException, ConfigError) as exc:
        return _fail(exc.format_message() if isinstance(exc, click.ClickException) else str(exc), EXIT_USAGE)
    except StartError as exc:
        return _fail(str(exc), EXIT_START)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return code
