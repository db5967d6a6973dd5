"""Clients by mechanisms, good, bad, expired and revoked, with TLS and without: who gets in, and what others hear."""
