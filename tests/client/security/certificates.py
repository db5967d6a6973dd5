"""Certificates for tests: an authority, what it signs, and stores of all kinds."""

import datetime
import hashlib
import ipaddress
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def make_key(*, is_rsa=False):
    # Elliptic keys are made in no time.
    return rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())


class Certificate:
    """A key and its certificate."""

    def __init__(self, name, issuer=None, *, names=(), days=30, is_rsa=False):
        self.key = make_key(is_rsa=is_rsa)
        signer = issuer or self
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 60 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        )
        if issuer is None:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        if names:
            alternatives = [
                x509.IPAddress(ipaddress.ip_address(each)) if each[0].isdigit() else x509.DNSName(each)
                for each in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self):
        return self.certificate.public_bytes(Encoding.DER)

    def key_pem(self, password=None):
        encryption = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()

    def pkcs12(self, password, *others):
        return pkcs12.serialize_key_and_certificates(
            b"key", self.key, self.certificate, [each.certificate for each in others], BestAvailableEncryption(password)
        )

    def pkcs12_trust(self, password):
        entry = pkcs12.PKCS12Certificate(self.certificate, b"authority")
        return pkcs12.serialize_java_truststore([entry], BestAvailableEncryption(password))

    def jks(self, password, *others, key_password=None):
        """As `keytool -storetype JKS` would write it."""
        key = self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        masked = _mask(key, key_password or password)
        chain = [self.der, *(each.der for each in others)]
        body = struct.pack(">IH", 1, 3) + b"key" + bytes(8) + struct.pack(">I", len(masked)) + masked
        body += struct.pack(">I", len(chain)) + b"".join(map(_jks_certificate, chain))
        return _jks(password, [body])

    def jks_trust(self, password):
        return _jks(password, [struct.pack(">IH", 2, 2) + b"ca" + bytes(8) + _jks_certificate(self.der)])


def _jks(password, entries):
    data = struct.pack(">III", 0xFEEDFEED, 2, len(entries)) + b"".join(entries)
    return data + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + data).digest()


def _jks_certificate(der):
    return struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(der)) + der


def _mask(key, password):
    secret, salt = password.encode("utf-16-be"), bytes(range(20))
    stream, digest = b"", salt
    while len(stream) < len(key):
        digest = hashlib.sha1(secret + digest).digest()
        stream += digest
    masked = salt + bytes(a ^ b for a, b in zip(key, stream, strict=False)) + hashlib.sha1(secret + key).digest()
    algorithm = _der(0x30, bytes.fromhex("060a2b060104012a021101010500"))
    return _der(0x30, algorithm + _der(0x04, masked))


def _der(tag, content):
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + struct.pack(">H", size)
    return bytes([tag]) + length + content
