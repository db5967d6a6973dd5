"""One module per API key, and one per family of records and data schemas; each message is declared once."""
