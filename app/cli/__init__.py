"""The `continuum` command: one module a command, gathered here."""

from __future__ import annotations

import logging
import sys
from importlib import import_module

import typer

from app.cli.output import print_error
from app.errors import ContinuumError

#: Where each command is, in the order that help shows them.
COMMANDS = {
    "demo": "app.cli.demo",
    "up": "app.cli.services",
    "down": "app.cli.services",
    "topics": "app.cli.topics",
    "worker": "app.cli.worker",
    "function": "app.cli.function",
    "replay": "app.cli.replay",
    "run": "app.cli.run",
    "bridge": "app.cli.bridge",
    "pipelines": "app.cli.pipelines",
    "sensors": "app.cli.sensors",
    "state": "app.cli.state",
    "dead-letters": "app.cli.dead_letters",
    "bench": "app.cli.bench",
    "chaos": "app.cli.chaos",
    "deploy": "app.cli.deploy",
    "config": "app.cli.config",
}


def command_line(name: str | None = None) -> typer.Typer:
    """Gather the commands, or the one of a name: a quick command does not wait for another's libraries."""
    cli = typer.Typer(name="continuum", no_args_is_help=True, pretty_exceptions_enable=False)
    # A group even of one command, so that its name is still expected.
    cli.callback(help="Stateful DSP over sensor streams, with every sensor's state kept continuous.")(lambda: None)
    for command in [name] if name in COMMANDS else COMMANDS:
        found = getattr(import_module(COMMANDS[command]), command.replace("-", "_"))
        if isinstance(found, typer.Typer):
            cli.add_typer(found, name=command)
        else:
            cli.command(command)(found)
    return cli


def main() -> None:
    """Run the command line; a user's error is one line on stderr and an exit code, a defect a traceback."""
    # What it has to say of brokers that do not answer, our own error says, with the remedy.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        command_line(sys.argv[1] if len(sys.argv) > 1 else None)()
    except ContinuumError as error:
        print_error(error)
        sys.exit(error.exit_code)
