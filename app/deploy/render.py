"""Templates of deployment files: places to fill in, and blocks that come once for each tier.

A place is ``@{name}``, a mark that Compose, CloudFormation, Kubernetes, PromQL and JSON leave free. A block lies
between the lines ``#@each workers`` and ``#@end``; its places are also filled in with the tier's values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Values = Mapping[str, str]

_PLACE = re.compile(r"@\{(\w+)\}")
_BLOCK = re.compile(r"^ *#@each (\w+)\n(.*?)^ *#@end\n", re.DOTALL | re.MULTILINE)


def render(template: str, values: Values, tiers: Mapping[str, Sequence[Values]]) -> str:
    """Fill a template in.

    Parameters
    ----------
    template
        Its text.
    values
        What its places outside of blocks, and inside, stand for.
    tiers
        For each name of a block the tiers that it comes for, each with its own values.

    Raises
    ------
    KeyError
        The template has a place or a block that nothing is known of.
    """

    def each(block: re.Match[str]) -> str:
        return "".join(_fill(block[2], {**values, **tier}) for tier in tiers[block[1]])

    return _fill(_BLOCK.sub(each, template), values)


def _fill(text: str, values: Values) -> str:
    return _PLACE.sub(lambda place: values[place[1]], text)
