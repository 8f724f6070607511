"""Seeded secrets are found, each by its rule; what programs ordinarily say is passed over.

No secret of these tests stands in this file: they are put together, so that this file can be captured.
"""

from __future__ import annotations

import json
import random
import string

import pytest

from stillrun_snapshot.secret_scan import SecretFound, is_program, masked, refuse, rule_names, scan, worth_scanning

chance = random.Random(7)


def some(count: int, letters: str = string.ascii_letters + string.digits) -> str:
    """``count`` characters by chance, among them a digit and a letter."""
    return "".join(chance.choice(letters) for _ in range(count - 2)) + letters[-1] + letters[0]


HEX, BASE32, BASE64 = (
    "0123456789abcdef",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
    string.ascii_letters + string.digits + "+/",
)
KEY_LINES = "\n".join(some(64, BASE64) for _ in range(3))

TOKENS = [
    ("aws-access-key-id", "AKIA" + some(16, BASE32)),
    ("aws-access-key-id", "ASIA" + some(16, BASE32)),
    ("github-token", "ghp_" + some(36)),
    ("github-token", "ghs_" + some(36)),
    ("github-token", "github_pat_" + some(22) + "_" + some(59)),
    ("gitlab-token", "glpat-" + some(20)),
    ("slack-token", "xoxb-" + some(11, string.digits) + "-" + some(24)),
    ("slack-webhook", "https://hooks.slack.com/services/T" + some(8, BASE32) + "/B" + some(8, BASE32) + "/" + some(24)),
    ("stripe-key", "sk_live_" + some(24)),
    ("google-api-key", "AIza" + some(35)),
    ("google-oauth", "GOCSPX-" + some(28)),
    ("openai-key", "sk-proj-" + some(30) + "T3BlbkFJ" + some(30)),
    ("anthropic-key", "sk-ant-api03-" + some(90)),
    ("huggingface-token", "hf_" + some(34, string.ascii_letters)),
    ("pypi-token", "pypi-AgEI" + some(80)),
    ("npm-token", "npm_" + some(36)),
    ("azure-storage-key", "AccountKey=" + some(86, BASE64) + "=="),
    ("sendgrid-key", "SG." + some(22) + "." + some(43)),
    ("databricks-token", "dapi" + some(32, HEX)),
    ("private-key", "-----BEGIN RSA " + "PRIVATE KEY-----\n" + KEY_LINES),
    ("private-key", "-----BEGIN OPENSSH " + "PRIVATE KEY-----\\n" + KEY_LINES.replace("\n", "\\n")),
    ("jwt", "eyJ" + some(20) + ".eyJ" + some(40) + "." + some(43)),
    ("conda-token", "https://conda.anaconda.org/t/" + "ab-" + some(36, HEX) + "/channel"),
]
IN_TEXT = [
    ("aws-secret-access-key", "AWS_SECRET_ACCESS_KEY=" + some(40, BASE64)),
    ("aws-secret-access-key", "aws_secret_access_key = '" + some(40, BASE64) + "'"),
    ("password-in-url", "postgresql://ada:" + some(9) + "@db.example.org/x"),
    ("password-in-url", "index-url = https://ada:" + some(9) + "@index.example.org/simple"),
    ("password-in-url", "redis://:" + some(12) + "@cache:6379/0"),
    ("authorization-header", "{'Authorization': 'Bearer " + some(40) + "'}"),
    ("authorization-header", "curl -H 'Authorization: token " + some(40) + "'"),
    ("assigned-secret", "password = 'Tr0ub4dor" + "&3'"),
    ("assigned-secret", 'DB_PASSWORD: str = "' + some(12) + '"'),
    ("assigned-secret", "connect(passwd='" + some(12) + "', user='ada')"),
    ("assigned-secret", '"client_secret": "' + some(24) + '"'),
    ("assigned-secret", 'os.environ["API_KEY"] = "' + some(24) + '"'),
    ("assigned-secret", "auth_token = b'" + some(32, HEX) + "'"),
]
IN_SETTINGS = [
    ("assigned-secret", "DB_PASSWORD=" + some(12)),
    ("assigned-secret", "export API_KEY=" + some(24)),
    ("assigned-secret", "password: " + some(12)),
    ("assigned-secret", "secret_key = " + some(30)),
]


@pytest.mark.parametrize(("rule", "text"), TOKENS + IN_TEXT)
def test_a_seeded_secret_is_found_wherever_it_stands(rule: str, text: str) -> None:
    places = (
        f'x = 1\ny = ""\n{text}\n',
        f"# {text}",
        json.dumps({"text": [f"{text}\n"]}),
        json.dumps({"text": f"a\n{text}"}),
    )
    for number, place in enumerate(places):
        (found,) = scan(place.encode(), "flow.py", program=True)
        begins = 1 if rule == "private-key" and "\n" in text and number < 2 else 0  # behind its first line
        assert (found.rule, found.where, found.line) == (rule, "flow.py", (3, 1, 1, 1)[number] + begins)
        assert text not in str(found)


@pytest.mark.parametrize(("rule", "text"), IN_SETTINGS)
def test_settings_need_no_quotes(rule: str, text: str) -> None:
    (found,) = scan(f"A=1\n{text}\nB=2\n".encode(), "settings.ini")
    assert (found.rule, found.line) == (rule, 2)


@pytest.mark.parametrize(("rule", "text"), TOKENS)
def test_a_token_is_found_among_other_bytes_too(rule: str, text: str) -> None:
    (found,) = scan(b"\x80\x05\x95\0\0\0\x8c(" + text.encode() + b"\x94.", "data.pkl")
    assert found.rule == rule


def test_every_rule_has_a_secret_that_it_finds() -> None:
    assert {rule for rule, _ in TOKENS + IN_TEXT} == set(rule_names())


ORDINARY = """
password = os.environ["DB_PASSWORD"]
password = getpass.getpass("Password: ")
password = "changeme"
PASSWORD_FIELD = "password_input_2"
token = tokenizer.next_token()
token_type = "bearer_token_1"
TOKEN = "<YOUR-TOKEN-HERE>"
api_key = "YOUR_API_KEY_123"
api_key = "xxxxxxxxxxxxxxxx1234"
api_key=settings.api_key
secret = f"{name}-{number}12345"
secret_name = "prod/db-1"
secret = "projects/1/secrets/db/versions/2"
self.token = self._token2
pad_token="[PAD]", unk_token="[UNK]", eos_token = "<|endoftext|>"
max_tokens: 4096
tokens_per_second = 1234567890
DATABASE_URL = "postgresql://user:password@localhost:5432/db"
url = "https://example.org:8080/a@b"
url = f"https://{user}:{password}@host/"
remote = "git@github.com:a/b.git"
npm = "https://registry.npmjs.org/@scope/pkg"
commit = "9f3c1b2a4d5e6f708192a3b4c5d6e7f801234567"
digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
key = "sepal_length_1"
sort_key = "2026-11-23T04:00:00"
primary_key = "customer_id_2"
begin = "-----BEGIN PRIVATE KEY-----"
uuid = "123e4567-e89b-12d3-a456-426614174000"
password=None, secret=True, token: str = "",
"accessKeyId": "AKIAXXXXXXXXXXXXXXXX"
hf_home, hf_hub_download_from_the_hub_please_now
"""


@pytest.mark.parametrize("line", [line for line in ORDINARY.splitlines() if line])
def test_what_programs_ordinarily_say_is_passed_over(line: str) -> None:
    assert scan(line.encode(), "flow.py", program=True) == []


def test_data_and_notebooks_with_pictures_are_passed_over() -> None:
    rows = "\n".join(f"{number},{chance.random()},{some(16, HEX)}" for number in range(2000))
    picture = json.dumps({"image/png": some(100_000, BASE64)})
    assert scan(rows.encode(), "data.csv") == scan(picture.encode(), "a.ipynb") == []


def test_rules_that_are_allowed_are_not_asked() -> None:
    text = "\n".join(text for _, text in TOKENS).encode()
    assert {each.rule for each in scan(text, "x", allowed={"jwt"})} == {rule for rule, _ in TOKENS} - {"jwt"}


def test_text_of_two_byte_letters_is_read() -> None:
    (found,) = scan(TOKENS[2][1].encode("utf-16"), "notes.txt")
    assert found.rule == "github-token"


def test_what_is_masked_keeps_its_length_and_lines() -> None:
    lines = [f"line {number}: {text}\n" for number, (_, text) in enumerate(TOKENS)]
    data = "".join(lines).encode()
    clean, found = masked(data)
    assert len(clean) == len(data) and clean.count(b"\n") == data.count(b"\n")
    assert len(found) == len(TOKENS) and scan(clean, "log") == []
    assert masked(clean) == (clean, [])


def test_the_refusal_names_rule_file_and_line_and_the_way_out_but_never_the_secret() -> None:
    text = TOKENS[2][1]
    with pytest.raises(SecretFound) as caught:
        refuse(scan(f"a\n{text}".encode(), "flows/flow.py"), "the code of flow.py")
    told = str(caught.value)
    assert "flows/flow.py:2: github-token" in told and "--allow-secret github-token --reason" in told
    assert text not in told and text not in repr(caught.value.facts) + repr(caught.value.findings)
    refuse([], "nothing")


def test_large_data_is_not_looked_through_and_large_texts_are() -> None:
    assert (
        worth_scanning("a.ipynb", 60 << 20)
        and worth_scanning("a.bin", 1 << 20)
        and not worth_scanning("a.bin", 2 << 20)
    )
    assert is_program("a/flow.py") and not is_program(".env") and not is_program("a.ipynb")


@pytest.mark.parametrize(("rule", "text"), TOKENS + IN_TEXT + IN_SETTINGS)
def test_short_and_long_texts_are_judged_alike(rule: str, text: str) -> None:
    for filling in ("", "\n" + "a b " * 2000):
        assert [each.rule for each in scan((text + filling).encode(), "x")] == [rule]


def test_a_removed_line_of_a_diff_is_a_finding() -> None:
    text = IN_TEXT[7][1]
    diff = f"--- a/x.py\n+++ b/x.py\n@@ -1 +1,2 @@\n-{text}\n+import os\n+password = os.environ['P']\n"
    (found,) = scan(diff.encode(), "", program=True)
    assert (found.rule, found.line) == ("assigned-secret", 4)
