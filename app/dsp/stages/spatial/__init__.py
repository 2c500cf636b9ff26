"""Stages that combine, choose or copy channels."""
