"""Spectra, wavelets and envelopes."""
