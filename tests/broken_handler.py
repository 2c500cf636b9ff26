"""A module that cannot be loaded as a handler."""

raise RuntimeError("no such state")
