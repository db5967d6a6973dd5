"""The simulated world: a seeded virtual-time event loop and an environment to run a node in."""
