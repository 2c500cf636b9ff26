"""Declarations of the Faust tables, one module a tier."""
