"""Stages that look at a sample and at most its neighbours."""
