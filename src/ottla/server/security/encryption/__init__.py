"""Whose keys encrypt the data directories: where they come from, how they change, and what is left to convert.

Three kinds of keys stand above one another:

- a *master key* that Ottla never stores: in a file, an environment variable, Vault's transit engine, a PKCS#11 token
  (`sources`, `vault`, `pkcs11`). The last two wrap and unwrap by themselves, and never give it away;
- *key-encryption keys* of a data directory, wrapped by the master key, in the directory's ring `.ottla-keys` (`ring`).
  One is current, older ones stay until no file needs them;
- the data key of each file, in its header, wrapped by a key-encryption key (`runtime.encryption`).

So the master key is asked when a node starts and when keys are rotated, and not while records flow; and rotating
rewrites a few hundred bytes of every file, not its content. `service` is what a node runs of it, `scan` tells the state
of directories without any key.
"""
