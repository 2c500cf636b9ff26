"""The copies of a sensor's state, in the tables, on the changelogs and in Redis: shown, moved, compared."""
