"""Measures a Kafka-protocol broker from outside: the same load on Ottla and on Apache Kafka in one run, told as ratios.

`python -m benchmarks` is the comparison (`make bench`); `python -m benchmarks.kill_loop` kills a broker under load and
counts what was lost.
Everything here meets a broker only on its port and in /proc; nothing imports the broker.

- `brokers`   starts, stops and kills an Ottla or an Apache Kafka node
- `wire`      a small Kafka client on plain sockets, cheap enough that the broker's own ceiling shows
- `measure`   processor time and memory of a process tree, percentiles, the lock that keeps two measurements apart
- `topics`, `load_*`, `cases`   the loads; `goals` what they have to show; `report` the table
"""
