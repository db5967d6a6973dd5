"""Partitions a broker hosts: leadership, high watermark, who waits for what."""
