"""The subject of a certificate as Java writes it: RFC 2253, last part first.

    subject_name(certificate) == "CN=alice,OU=Sales,O=Example\\\\, Inc.,C=DE"

Kafka's principals, and so ACLs and quotas, are made of exactly these texts, so what Java does counts: the nine keywords
of RFC 2253 and no other; any other attribute as its number with its value in hexadecimal; which characters get a
backslash. Reading the few bytes of DER that matter takes less than loading a library for them.
"""

from __future__ import annotations

from typing import Final

_KEYWORDS: Final = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("550409"): "STREET",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("0992268993f22c640119"): "DC",
    bytes.fromhex("0992268993f22c640101"): "UID",
}
_CHARSETS: Final = {
    0x0C: "utf-8",  # UTF8String
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # T61String
    0x16: "ascii",  # IA5String
    0x1B: "ascii",  # GeneralString
    0x1E: "utf-8",  # BMPString, which Java takes for what it is not
}
"""Types of values that Java takes for texts."""
_ESCAPED: Final = ',=+<>#;"\\'
_SEQUENCE, _SET, _OBJECT_IDENTIFIER, _VERSION = 0x30, 0x31, 0x06, 0xA0


def subject_name(certificate: bytes) -> str:
    """The subject of a certificate (DER); "" for one without. Raises ValueError for what is no certificate."""
    fields = _parts(_content(_content(certificate, _SEQUENCE), _SEQUENCE))
    if fields and fields[0][0] == _VERSION:
        fields = fields[1:]
    if len(fields) < 5 or fields[4][0] != _SEQUENCE:  # serial number, algorithm, issuer, validity, subject
        raise ValueError("this is no X.509 certificate")
    return name_text(fields[4][1])


def name_text(name: bytes) -> str:
    """The text of a Name, given its content (RelativeDistinguishedNames, DER)."""
    relative = ["+".join(_attribute(content) for _, content in _parts(attributes)) for tag, attributes in _parts(name)]
    return ",".join(reversed(relative))


def _attribute(content: bytes) -> str:
    parts = _parts(content)
    if len(parts) != 2 or parts[0][0] != _OBJECT_IDENTIFIER:
        raise ValueError("this is no attribute of a distinguished name")
    (_, number), (tag, value) = parts
    keyword = _KEYWORDS.get(number)
    charset = _CHARSETS.get(tag)
    if keyword is None or charset is None:
        encoded = content[len(content) - _size_with_header(value) :]
        return f"{keyword or _dotted(number)}=#{encoded.hex()}"
    return f"{keyword}={_escape(value.decode(charset, errors='replace'))}"


def _escape(text: str) -> str:
    escaped = "".join("\\00" if each == "\0" else f"\\{each}" if each in _ESCAPED else each for each in text)
    inner = escaped.strip(" \r")
    if len(inner) == len(escaped):
        return escaped
    start = len(escaped) - len(escaped.lstrip(" \r"))
    end = start + len(inner)
    return "".join(each if start <= position < end else f"\\{each}" for position, each in enumerate(escaped))


def _dotted(number: bytes) -> str:
    arcs = []
    value = 0
    for byte in number:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            arcs.append(value)
            value = 0
    if not arcs:
        raise ValueError("this is no object identifier")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))


def _content(encoded: bytes, tag: int) -> bytes:
    parts = _parts(encoded, most=1)
    if not parts or parts[0][0] != tag:
        raise ValueError("this is no X.509 certificate")
    return parts[0][1]


def _parts(content: bytes, most: int = 1000) -> list[tuple[int, bytes]]:
    """Tags and contents of what stands one after the other."""
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(content) and len(found) < most:
        if position + 2 > len(content):
            raise ValueError("a certificate ends too soon")
        tag, size = content[position], content[position + 1]
        position += 2
        if size >= 0x80:
            width = size & 0x7F
            if not 1 <= width <= 4:
                raise ValueError("a certificate has a length that DER does not know")
            size = int.from_bytes(content[position : position + width], "big")
            position += width
        if position + size > len(content):
            raise ValueError("a certificate ends too soon")
        found.append((tag, content[position : position + size]))
        position += size
    return found


def _size_with_header(value: bytes) -> int:
    size = len(value)
    return 2 + size + (0 if size < 0x80 else (size.bit_length() + 7) // 8)
