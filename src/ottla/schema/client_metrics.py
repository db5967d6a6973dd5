"""The settings of a client metrics subscription (KIP-714)."""

from ottla.schema.definition import SettingTable

CLIENT_METRICS_SETTINGS = SettingTable("""
interval.ms int      medium 300000
match       list     medium []
metrics     list     medium []
""")
