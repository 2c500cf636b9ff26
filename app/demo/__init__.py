"""The demo: a whole system on real ECG, every feature checked against an offline pass."""
