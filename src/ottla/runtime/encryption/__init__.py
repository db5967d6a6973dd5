"""Encryption at rest as a property of the file layer: a `Disk` that wraps another.

A file begins with a header of one page, then comes its content as AES-256-CTR ciphertext, byte for byte where the
plain content would be, one page later. Callers see logical positions and sizes, and know nothing of it.

- Every file has a data key of its own, 64 random bytes of which half encrypt and half authenticate. The header holds
  it wrapped (AES-256-GCM) by a key-encryption key, which it names by id. Which those are, is the matter of `Keys`.
- The keystream of a byte follows from data key, nonce and position. *Extents* say which nonce is valid from where: a
  nonce is only ever used once for a position. What was cut off and is written again, what a failed write may have
  left behind, what another process wrote before: all of it is followed by a new extent, with a new random nonce.
- Extents are appended to the header, each with a code of its own, and none is ever overwritten. One that a crash has
  torn was not synced, nor was the data that follows it: it is garbage, as torn data is, and recovery cuts it off.
  No write has to wait for another.
- The wrapped data key has two places, so that a new key-encryption key can be noted without a moment in which there is
  none. When both are unreadable, and in the way of a first write that was torn, the file is empty: nothing of it was
  ever synced. Otherwise it is damaged, and says so.
- Files that are written whole (`Disk.replace`) carry a code over their content, which a `read` verifies.
- Blocks of ciphertext that are zero at the beginning of a page were never written (file systems extend a file before
  the data arrives): they are read as zeros, as in a plain file.

Plain files stay readable and writable where they are; `conversion` rewrites them, while they are used.

The decision with its reasons and figures: docs/decisions/encryption-at-rest.md.
"""
