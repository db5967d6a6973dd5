"""What a broker tells of itself: metrics under the names that Kafka's dashboards ask for, health, consumer lag.

Theory of operation. What is measured is counted where it happens, as plain integers on objects that are there anyway
(`broker.request_metrics`, `replication.partition`, …). Nothing here runs until somebody asks; then

    table.py     one row per MBean: domain, type, name, kind, and the function that reads it
    beans.py     from a row to names, by rule, in each of the dialects that dashboards speak
    scrape.py    one look at the broker: what several rows need is added up once
    exposition   families of samples as Prometheus text, in pieces, so that the event loop goes on in between

Beside the MBeans there are the names of kafka_exporter (`exporter.py`), of the process and its runtime (`process.py`),
of Burrow (`lag.py` judges, `groups.py` keeps the windows), and what clients pushed (KIP-714, `clients.py`).
`endpoint.py` is the door: it listens from the start of the node on, and loads the rest with the first request.

What Ottla does not have is not made up: a value that is there has been measured, counted, or is true by construction
(a quorum of one has one voter). Labels are bounded: topics, partitions and groups that exist, and a limited number of
names that clients choose.
"""
