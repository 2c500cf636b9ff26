"""Values as TOML."""

from __future__ import annotations

from typing import Any


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {toml(one)}' for name, one in value.items())}}}"
    return repr(value)
