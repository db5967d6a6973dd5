"""Who of a group consumes what: algorithms that coordinator and clients share. Pure functions, one module each."""
