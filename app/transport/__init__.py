"""Faust's aiokafka driver, with partition batches as events and the mends that keep every message.

Stock Faust 0.15 loses, repeats and reorders messages when a worker joins or leaves under load. Each class here
says which of its faults it mends.
"""
