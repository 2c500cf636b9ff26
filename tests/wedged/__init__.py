"""Workers that take what they get and never finish it, each in its own way: what the watchdog is there for."""
