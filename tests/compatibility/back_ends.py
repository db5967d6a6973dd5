"""Who knows users outside of Kafka: a directory (slapd), a Kerberos realm, an issuer of tokens; each in a directory."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.parse
from base64 import b64decode
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import RSAKey

from benchmarks.brokers import free_port
from tests.client.security.certificates import Certificate
from tests.server.security.identities import Issuer, wall_ms

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
REALM = "OTTLA.TEST"
BASE = "dc=ottla,dc=test"


def _lacks(*programs):
    return any(shutil.which(program, path=SEARCHED) is None for program in programs)


def missing_directory():
    """What has to be installed before there can be a directory."""
    return "slapd (scripts/install-tools ldap)" if _lacks("slapd", "slapadd", "ldapmodify") else None


def missing_realm():
    """The same for a realm."""
    if _lacks("krb5kdc", "kdb5_util", "kadmin.local", "kinit"):
        return "a Kerberos KDC (scripts/install-tools kerberos)"
    return None


class BackEnd:
    """Files in a directory and one process."""

    environment = os.environ

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = None

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def run(self, *command, text=None):
        program = shutil.which(command[0], path=SEARCHED)
        done = subprocess.run(
            [program, *command[1:]], env=self.environment, capture_output=True, input=text, text=True, check=False
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def spawn(self, *command):
        program = shutil.which(command[0], path=SEARCHED)
        self.process = subprocess.Popen(
            [program, *command[1:]], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


# A directory

_SLAPD = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile {directory}/slapd.pid
argsfile {directory}/slapd.args
TLSCACertificateFile {directory}/authority.pem
TLSCertificateFile {directory}/directory.pem
TLSCertificateKeyFile {directory}/directory.key
disallow bind_anon
database mdb
maxsize 16777216
suffix "{base}"
rootdn "cn=admin,{base}"
rootpw admin-secret
directory {directory}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
overlay ppolicy
"""

_ENTRIES = """
dn: {base}
objectClass: domain
dc: ottla

dn: ou=people,{base}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{base}
objectClass: organizationalUnit
ou: groups

dn: cn=lookup,{base}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: lookup
userPassword: lookup-secret

dn: uid=alice,ou=people,{base}
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Liddell
userPassword: wonderland

dn: uid=bob,ou=people,{base}
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Builder
userPassword: can we fix it

dn: cn=old passwords,{base}
objectClass: organizationalRole
objectClass: pwdPolicy
cn: old passwords
pwdAttribute: userPassword
pwdMaxAge: 86400

dn: uid=henry,ou=people,{base}
objectClass: inetOrgPerson
uid: henry
cn: Henry
sn: Old
userPassword: since last year
pwdChangedTime: 20200101000000Z
pwdPolicySubentry: cn=old passwords,{base}

dn: cn=readers,ou=groups,{base}
objectClass: groupOfNames
cn: readers
member: uid=alice,ou=people,{base}
member: uid=bob,ou=people,{base}

dn: cn=writers,ou=groups,{base}
objectClass: groupOfNames
cn: writers
member: uid=alice,ou=people,{base}
"""


class Slapd(BackEnd):
    """OpenLDAP with two groups; alice is in both, bob in one, and henry's password is too old."""

    def __init__(self, directory):
        super().__init__(directory)
        self.authority = Certificate("directory authority")
        own = Certificate("directory", self.authority, names=["127.0.0.1", "localhost"])
        self.trust = self.write("authority.pem", self.authority.pem)
        self.write("directory.pem", own.pem)
        self.write("directory.key", own.key_pem())
        (self.directory / "data").mkdir()
        self._configuration = self.write("slapd.conf", _SLAPD.format(directory=self.directory, base=BASE))
        self.run("slapadd", "-f", self._configuration, text=_ENTRIES.format(base=BASE))
        self.url = f"ldap://localhost:{free_port()}"
        self.tls_url = f"ldaps://localhost:{free_port()}"

    def start(self):
        self.spawn("slapd", "-f", self._configuration, "-h", f"{self.url}/ {self.tls_url}/", "-d", "0")
        deadline = time.monotonic() + 10
        while True:
            try:
                return self.run("ldapwhoami", *self._admin())
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def change(self, ldif):
        """Apply changes as the administrator."""
        self.run("ldapmodify", *self._admin(), text=ldif.format(base=BASE))

    def _admin(self):
        return ["-H", self.url, "-x", "-D", f"cn=admin,{BASE}", "-w", "admin-secret"]


# A realm


class Kdc(BackEnd):
    """A realm with the service kafka/localhost, and users who have keytabs."""

    def __init__(self, directory, *, users=("alice", "bob")):
        super().__init__(directory)
        self.port = free_port()
        self.krb5 = self.write(
            "krb5.conf",
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " rdns = false\n dns_canonicalize_hostname = false\n udp_preference_limit = 1\n"
            f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{self.port}\n }}\n",
        )
        profile = self.write(
            "kdc.conf",
            f"[kdcdefaults]\n kdc_ports = {self.port}\n kdc_tcp_ports = {self.port}\n"
            f"[realms]\n {REALM} = {{\n  database_name = {self.directory}/principal\n"
            f"  key_stash_file = {self.directory}/stash\n }}\n",
        )
        self.environment = {
            **os.environ,
            "PATH": SEARCHED,
            "KRB5_CONFIG": self.krb5,
            "KRB5_KDC_PROFILE": profile,
            "KRB5CCNAME": f"FILE:{self.directory}/cache",
        }
        self.run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        for principal in ("kafka/localhost", *users):
            self.admin(f"addprinc -randkey {principal}")
            self.admin(f"ktadd -k {self.keytab(principal)} {principal}")
        self.spawn("krb5kdc", "-n")

    def admin(self, request):
        """A request of the realm's administrator."""
        self.run("kadmin.local", "-q", request)

    def keytab(self, name):
        return str(self.directory / f"{name.partition('/')[0]}.keytab")

    def ticket(self, name, cache=None, *options):
        """Get a ticket for a user, from its keytab, into the cache."""
        deadline = time.monotonic() + 10
        where = [] if cache is None else ["-c", cache]
        while True:  # The KDC may not listen yet.
            try:
                return self.run("kinit", *options, *where, "-k", "-t", self.keytab(name), name)
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise


# An issuer of tokens

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class OpenIdIssuer:
    """Token endpoint and keys over HTTP. Clients have a secret, or sign with `client_key`."""

    def __init__(self):
        self.issuer = Issuer()
        self.client_key = RSAKey.generate_key(2048)
        self.secrets = {"carol": "carol's secret: +/="}
        self.lifetime_s = 600
        self.audience = "kafka"
        self.groups = ["readers"]
        self.issued = 0
        self.asked_for_keys = 0
        self.signs_with = "p256"
        self.published = ["p256"]
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def token(self, subject="carol", key=None, **claims):
        """A token as the endpoint gives them, or with other claims."""
        key = key or self.signs_with
        algorithm = {"p256": "ES256", "p384": "ES384", "p521": "ES512", "rsa": "RS256"}[key]
        given = {"iss": self.url, "aud": self.audience, "groups": self.groups, **claims}
        now_ms = claims.pop("now_ms", wall_ms())
        given.pop("now_ms", None)
        lifetime_s = given.pop("lifetime_s", self.lifetime_s)
        return self.issuer.token(key, algorithm, sub=subject, now_ms=now_ms, lifetime_s=lifetime_s, **given)

    def grant(self, fields, authorization):
        """(status, answer) of the token endpoint."""
        subject = self._client(fields, authorization)
        if subject is None:
            return 401, {"error": "invalid_client"}
        self.issued += 1
        return 200, {"access_token": self.token(subject), "token_type": "Bearer", "expires_in": self.lifetime_s}

    def _client(self, fields, authorization):
        assertion = fields.get("client_assertion")
        if fields.get("grant_type") == JWT_BEARER:
            assertion = fields.get("assertion")
        if assertion is not None:
            try:
                claims = jwt.decode(assertion, self.client_key, algorithms=["RS256"]).claims
                jwt.JWTClaimsRegistry(aud={"essential": True, "value": self.url}).validate(claims)
            except Exception:
                return None
            return claims.get("sub")
        scheme, _, encoded = (authorization or "").partition(" ")
        client, _, secret = b64decode(encoded).decode().partition(":") if scheme == "Basic" else ("", "", "")
        return client if client and self.secrets.get(client) == secret else None

    def _handler(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path != "/keys":
                    return self.answer(404, b"{}")
                outer.asked_for_keys += 1
                return self.answer(200, outer.issuer.document(*outer.published))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = dict(urllib.parse.parse_qsl(body))
                status, answer = outer.grant(fields, self.headers["Authorization"])
                self.answer(status, json.dumps(answer).encode())

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        return Handler

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
