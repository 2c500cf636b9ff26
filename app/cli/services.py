"""`continuum up` and `continuum down`: the embedded Kafka and Redis."""

from __future__ import annotations

from rich.table import Table

from app.cli.output import JsonOption, note, out, print_json
from app.runtime.instance import stop_workers
from app.services import down as stop
from app.services import given_addresses, start_missing
from app.settings import PREFIX, load_settings


def up(as_json: JsonOption = False) -> None:
    """Start the embedded Kafka and Redis, as far as none of your own are set."""
    addresses = start_missing(load_settings().datadir, progress=note)
    if as_json:
        print_json({**addresses, "external": given_addresses()})
    elif addresses:
        table = Table("setting", "value")
        for setting, address in addresses.items():
            table.add_row(PREFIX + setting.upper(), address)
        out.print(table)
        note("other commands find these by themselves; `continuum down` stops them")


def down(as_json: JsonOption = False) -> None:
    """Stop the workers and functions of the data folder, then the embedded Kafka and Redis; their data stays."""
    settings = load_settings()
    names = stop_workers(settings.datadir, settings.shutdown_seconds)
    stopped = [name if name.startswith("function-") else f"worker {name}" for name in names]
    stopped += stop(settings.datadir)
    if as_json:
        print_json({"stopped": stopped})
    else:
        out.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running", markup=False)
