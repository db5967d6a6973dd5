"""Record batches, records, control batches and compression: bytes in, bytes out."""
