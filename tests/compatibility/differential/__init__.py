"""The same scripted requests to this broker and to Apache Kafka: where the answers differ, it is a bug or it is meant.

`world` asks one broker and writes down what it answered, `comparison` makes two such records comparable and tells where
they differ, the `*_scenarios` modules are the scripts, `intended` is the table of the differences that are meant to be.
"""
