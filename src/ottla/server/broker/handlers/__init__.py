"""One module per API: its versions, its notes, and `handle`."""
