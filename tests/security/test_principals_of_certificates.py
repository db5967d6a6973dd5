"""Principals of certificates: every expected text is what Java 17 and Kafka 4.3.1 make of the same."""

import struct

import pytest

from ottla.security.distinguished_name import name_text, subject_name
from ottla.security.principal_rules import NoMatchingRuleError, PrincipalRules
from tests.client.security.certificates import Certificate

DUKE = "CN=Duke,OU=ServiceUsers,O=Org,L=Town,ST=MD,C=US"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            (
                "3045310b300906035504061302444531163014060355040a0c0d4578616d706c652c20496e632e310e300c060355040b0c0553616c6573"
                "310e300c06035504030c05616c696365"
            ),
            "CN=alice,OU=Sales,O=Example\\, Inc.,C=DE",
        ),
        (
            "301e311c301a06035504030c13612b623d633c643e6523663b6722685c692c6a",
            'CN=a\\+b\\=c\\<d\\>e\\#f\\;g\\"h\\\\i\\,j',
        ),
        ("301c311a301806035504030c11206c65616420616e6420747261696c2020", "CN=\\ lead and trail\\ \\ "),
        ("3010310e300c06035504030c052368617368", "CN=\\#hash"),
        ("30193117301506035504030c0e4772c3bcc39f6520e6bca2e5ad97", "CN=Grüße 漢字"),
        (
            "302d311c301a06092a864886f70d010901160d61406578616d706c652e6f7267310d300b06035504030c046d61696c",
            "CN=mail,1.2.840.113549.1.9.1=#160d61406578616d706c652e6f7267",
        ),
        (
            (
                "304231133011060a0992268993f22c64011916036f726731173015060a0992268993f22c64011916076578616d706c65"
                "31123010060a0992268993f22c6401010c027531"
            ),
            "UID=u1,DC=example,DC=org",
        ),
        (
            (
                "3044311b300806035504030c0178300f060a0992268993f22c6401010c0179310c300a06035504051303313233"
                "310b3009060355040c0c024472310a300806035504040c0153"
            ),
            "2.5.4.4=#0c0153,2.5.4.12=#0c024472,2.5.4.5=#1303313233,CN=x+UID=y",
        ),
        ("30153113301106035504031e0a0062006d0070002000fc", "CN=\\00b\\00m\\00p\\00 \\00\ufffd"),
        ("300e310c300a06035504031403743631", "CN=t61"),
        ("30173115301306035504031c0c000000750000006e00000069", "CN=#1c0c000000750000006e00000069"),
        ("300e310c300a06035504031a03766973", "CN=#1a03766973"),
        ("300e310c300a06035504030c03610062", "CN=a\\00b"),
        ("30183116301406035504030c0d746162092063720d20656e640d", "CN=tab\t cr\r end\\\r"),
        ("3011310f300d060688370184a2700c036f776e", "2.999.1.70000=#0c036f776e"),
        ("3000", ""),
    ],
)
def test_subjects_are_written_as_java_writes_them(name, text):
    assert name_text(bytes.fromhex(name)[2:]) == text


def test_the_subject_of_a_whole_certificate():
    assert subject_name(Certificate('alice, of the "books"').der) == 'CN=alice\\, of the \\"books\\"'


@pytest.mark.parametrize("cut", [0, 1, 5, 20, 60, 90])
def test_what_is_no_certificate_is_a_value_error(cut):
    with pytest.raises(ValueError):  # noqa: PT011 (whatever it says)
        subject_name(Certificate("alice").der[:cut])


def test_damaged_certificates_never_raise_anything_else():
    der = bytearray(Certificate("alice").der)
    for position in range(min(len(der), 250)):
        for value in (0x00, 0x80, 0x84, 0xFF):
            before, der[position] = der[position], value
            try:
                subject_name(bytes(der))
            except ValueError:
                pass
            der[position] = before


def test_lengths_beyond_the_end_are_not_believed():
    with pytest.raises(ValueError, match="ends too soon"):
        name_text(b"\x31\x84" + struct.pack(">I", 0x7FFFFFFF) + b"x")


@pytest.mark.parametrize(
    ("rules", "subject", "name"),
    [
        ("DEFAULT", DUKE, DUKE),
        ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,DEFAULT", DUKE, "Duke"),
        ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L", DUKE, "duke"),
        ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/U , DEFAULT", DUKE, "DUKE"),
        ("RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/,DEFAULT", DUKE, "Duke@ServiceUsers"),
        ("RULE:^CN=(.*?),OU=(.*?),.*$/$1@$4/", DUKE, "Duke@$4"),
        ("RULE:^CN=(.*?),OU=(.*?),.*$/$12-$0/", DUKE, f"Duke2-{DUKE}"),
        ("RULE:^CN=(?<who>.*?),.*$/${who}!/", DUKE, "Duke!"),
        ("RULE:.*/x/", DUKE, "xx"),
        ("RULE:^cn=.*$/never/,RULE:^CN=.*$/a b, c/", DUKE, "a b, c"),
        ("RULE:^CN=(.*?),.*$/$1\\/x/", DUKE, "Duke/x"),
        ("RULE:^CN=(.*?),.*$/\\$1/", DUKE, "$1"),
        ("RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L,DEFAULT", DUKE, "duke"),
        ("RULE:^CN=(.*?),OU=a\\/b.*$/$1/", "CN=x,OU=a/b,C=US", "x"),
        (" RULE:^CN=([^,]+),.*$/$1/L ,, DEFAULT ", DUKE, "duke"),
        ("RULE:^CN=(a)?.*$/[$1]/", "CN=b", "[]"),
    ],
)
def test_rules_map_as_in_kafka(rules, subject, name):
    assert PrincipalRules.parse(rules).name(subject) == name


@pytest.mark.parametrize("rules", ["", "RULE:^OU=.*$/x/"])
def test_who_no_rule_applies_to_has_no_name(rules):
    with pytest.raises(NoMatchingRuleError, match="applies to 'CN=Duke"):
        PrincipalRules.parse(rules).name(DUKE)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("nonsense", "'nonsense' is neither DEFAULT nor RULE:pattern/replacement/"),
        ("RULE:a/b", "'RULE:a/b' is neither DEFAULT nor"),
        ("RULE:a/b/Lx", "'x' behind the last slash of a rule is neither L nor U"),
        ("RULE:^CN=(.*$/x/", "is no regular expression that can be used here"),
        ("RULE:^CN=.*$/$1/", "has no group $1"),
        ("RULE:^CN=.*$/${who}/", "has no group ${who}"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, reason):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (looked at below)
        PrincipalRules.parse(rules)
    assert reason in str(caught.value)
