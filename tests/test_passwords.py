"""Passwords as the file of users has them."""

from click.testing import CliRunner

from ovs_metadata.cli.main import main
from ovs_metadata.passwords import hashed, is_hashed, matches

SALT = bytes(range(16))


def test_a_word_is_that_of_its_password_alone() -> None:
    word = hashed("pässword", SALT)
    assert word == (
        "$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw==$UDPF+c6UAbOfYLbXfh5BLsQrn+UidWRbQyyDP5iuTDg="
    )
    assert matches("pässword", word)
    assert not matches("password", word)
    assert is_hashed(word)
    for other in ("", "password", word[:-1], word.replace("ln=14", "ln=4"), f"{word} "):
        assert not is_hashed(other)
        assert not matches("pässword", other)


def test_the_command_makes_a_line_of_the_file() -> None:
    result = CliRunner().invoke(main, ["hash-password", "prometheus"], input="secret\n")
    assert result.exit_code == 0
    name, _, word = result.output.strip().partition(":")
    assert name == "prometheus"
    assert matches("secret", word)
    assert CliRunner().invoke(main, ["hash-password", "a:b"], input="x\n").exit_code == 2
    assert CliRunner().invoke(main, ["hash-password", "a"], input="\n").exit_code == 1
