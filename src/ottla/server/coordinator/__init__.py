"""Coordinators as shards of internal topics: commands give records and a response; only replay changes state."""
