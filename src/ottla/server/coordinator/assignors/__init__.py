"""Server-side assignors: who of a group consumes which partitions (KIP-848). Pure functions, one module each."""
