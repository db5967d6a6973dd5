"""The broker, its controller and their state machines. Meets clients on the wire only."""
