"""Listener, dispatch, request handlers, fetch sessions, delayed operations."""
