"""`continuum config`: the settings in force, secrets masked."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import SecretStr
from rich.table import Column, Table

from app.cli.output import JsonOption, out, print_json
from app.settings import PREFIX, Settings, load_settings


def config(as_json: JsonOption = False) -> None:
    """Print the settings in force, secrets masked."""
    settings = load_settings()
    shown = {PREFIX + name.upper(): _masked(getattr(settings, name)) for name in Settings.model_fields}
    if as_json:
        print_json(shown)
        return
    table = Table(Column("setting", no_wrap=True), "value", "meaning")
    for (variable, value), field in zip(shown.items(), Settings.model_fields.values(), strict=True):
        table.add_row(variable, "" if value is None else str(value), field.description)
    out.print(table)


def _masked(value: object) -> object:
    """Give a value as text that may be shown: addresses keep all but their password."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        parts = urlsplit(secret)
        if not parts.scheme:
            return "********"
        return secret.replace(f":{parts.password}@", ":********@") if parts.password else secret
    if isinstance(value, tuple):
        return ",".join(value)
    return value if value is None or isinstance(value, int | float) else str(value)
