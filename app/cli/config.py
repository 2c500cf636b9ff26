"""`continuum config`: the settings in force, secrets masked."""

from __future__ import annotations

import re
from urllib.parse import unquote

from pydantic import SecretStr
from rich.table import Column, Table

from app.cli.output import JsonOption, out, print_json
from app.settings import PREFIX, Settings, load_settings
from app.tiers import OVERRIDES, in_force

MASK = "********"


def config(as_json: JsonOption = False) -> None:
    """Print the settings in force, secrets masked."""
    settings = load_settings()
    shown = {PREFIX + name.upper(): _in_force(settings, name) for name in Settings.model_fields}
    if as_json:
        print_json(shown)
        return
    table = Table(Column("setting", no_wrap=True), "value", "meaning")
    for (variable, value), field in zip(shown.items(), Settings.model_fields.values(), strict=True):
        table.add_row(variable, _text(value), field.description)
    out.print(table)


def _in_force(settings: Settings, name: str) -> object:
    """Give what a setting comes to: where it is each tier's own, that of each tier which a worker runs."""
    value = getattr(settings, name)
    if value is None and name in OVERRIDES:
        return {tier: getattr(in_force(settings, tier), name) for tier in settings.tiers}
    return _masked(value)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{tier} {own:g}" for tier, own in value.items())
    return "" if value is None else str(value)


def _masked(value: object) -> object:
    """Give a value as text that may be shown: addresses keep all but their passwords."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _masked_address(secret) if "://" in secret else MASK
    if isinstance(value, tuple):
        return ",".join(value)
    return value if value is None or isinstance(value, int | float) else str(value)


def _masked_address(url: str) -> str:
    # Not by parsing: a password with a character that should have been escaped would end up in another part.
    scheme, _, rest = re.sub(r"([?&])([^=&#@]*)=([^&#]*)", _masked_option, url).partition("://")
    given, at, place = rest.rpartition("@")
    user, colon, _ = given.partition(":")
    # A name alone may be a password that its writer took for one.
    return f"{scheme}://{f'{user}:{MASK}' if colon else MASK}{at}{place}" if at else f"{scheme}://{rest}"


def _masked_option(option: re.Match[str]) -> str:
    separator, name, value = option.groups()
    return f"{separator}{name}={MASK if 'pass' in unquote(name).lower() else value}"
