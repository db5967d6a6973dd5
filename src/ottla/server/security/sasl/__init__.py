"""SASL on the server: `exchange.py` is the conversation with one client, without I/O; `mechanism.py` says what a
mechanism is, `registry.py` which there are; the others are the mechanisms.
"""
