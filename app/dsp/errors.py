"""What the core refuses: a pipeline that is not one, a snapshot that does not fit."""


class PipelineError(ValueError):
    """A pipeline's definition is wrong: the text, a line for each fault, names place, value and what is allowed."""


class SnapshotError(ValueError):
    """A snapshot cannot be used: damaged, of an unknown version, or of another pipeline."""
