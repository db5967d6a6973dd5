"""How the values of the table are found out: one module for each part of the broker."""
