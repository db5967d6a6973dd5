"""The authorization matrix: every API that is served, asked with and without the permissions that it needs.

`rows` and `controller_rows` have the requests, `cells` what is asked with which ACLs, `matrix` asks and compares.
"""
