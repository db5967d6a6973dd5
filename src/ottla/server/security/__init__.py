"""Who may come in, and what they may do here. A broker without security loads nothing of this package."""
