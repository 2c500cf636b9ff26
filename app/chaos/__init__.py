"""Faults on purpose: workers, brokers, Redis, disks and networks fail on a random plan, while every feature is checked.

`continuum chaos` for operators, and the fault tests, run it. Everything is real: worker processes and signals, a
cluster of three Kafka brokers, a Redis, and TCP connections that break.
"""
