"""The cluster's state machine: a command gives metadata records and a response."""
