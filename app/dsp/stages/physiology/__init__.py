"""What hearts and bodies do: beats, heart rate, signal quality, steps."""
