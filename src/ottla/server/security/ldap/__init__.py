"""A directory (LDAP) as the place where passwords are checked and groups are kept, for PLAIN.

- `settings.py`: the `ldap.*` settings of one listener, and what they make of a name: filters and distinguished names,
  escaped. Without I/O.
- `wire.py`: the few messages of LDAP (RFC 4511) that this takes, as bytes; filters. Without I/O.
- `client.py`: one connection, on the event loop.
- `directory.py`: connections that are kept, answers that are remembered for a moment.

A password is checked by binding with it. A bind without a password succeeds on every directory, as nobody in particular
(RFC 4513, 5.1.2), so an empty one never gets that far. The name in the directory must be spelled exactly as the client
spells it: directories do not tell `alice` from `ALICE`, but ACLs do.

There is no library: those for Python block a thread for each question, need a C library to be built, or connect again
without the TLS that was asked for; three requests are less than what would have to be guarded against.
"""
