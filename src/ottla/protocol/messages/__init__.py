"""One module per API key, and one per family of records and data schemas; each message is declared once.

`fetch` has `FetchRequest` and `FetchResponse`, and the structs in them under Kafka's names. Where messages of one
module use the same name for different structs, each carries its message's name in front (`VoteRequestTopicData`).
Families: `metadata_records`, `group_records`, `share_records`, `streams_records`, `transaction_records`,
`remote_log_records`, `consumer_protocol`, `raft_data`, `log_data`, `principal_data`, `headers`.
"""
