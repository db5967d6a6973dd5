import os
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def complete(bootstrap, tmp_path):
    """What could follow on a line, as the shell asks for it."""

    def ask(line, servers=bootstrap):
        file = tmp_path / "answer"
        file.write_text("")
        environment = os.environ | {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(file),
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SHELL": "fish",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line.encode())),
            "OTTLA_BOOTSTRAP_SERVERS": servers,
            "XDG_CONFIG_HOME": str(tmp_path),
        }
        done = subprocess.run(
            [sys.executable, "-m", "ottla"], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.stdout, done.stderr) == ("", "")
        return {one.strip().partition("\t")[0] for one in file.read_text().splitlines() if one.strip()}

    return ask


def test_commands_actions_and_options(complete):
    assert {"topics", "configs", "start", "profiles"} <= complete("ottla ")
    assert complete("ottla topi") == {"topics"}
    assert {"list", "create", "describe", "alter", "delete"} <= complete("ottla topics ")
    assert complete("ottla topics creat") == {"create"}
    assert "--partitions" in complete("ottla topics create x --part")
    assert complete("ottla completion ") == {"bash", "zsh", "fish"}


def test_names_of_topics_groups_settings_and_profiles(complete, ottla, name, tmp_path):
    ottla("topics", "create", name)
    assert complete(f"ottla topics describe {name[:8]}") >= {name}
    for command in ("consume", "produce", "bench consume"):
        assert complete(f"ottla {command} {name}") == {name}, command
    assert complete(f"ottla configs describe topic/{name}") == {f"topic/{name}"}
    assert complete("ottla topics create x -c retention.b") == {"retention.bytes="}
    assert complete(f"ottla configs set topic/{name} retention.m") == {"retention.ms="}
    ottla("profiles", "add", "live", "-b", "x:1")
    (tmp_path / "ottla").mkdir(exist_ok=True)
    shutil.copy(tmp_path / "config" / "ottla" / "config.toml", tmp_path / "ottla" / "config.toml")
    assert complete("ottla topics list --profile l") == {"live"}


def test_a_cluster_that_is_away_completes_nothing_in_silence(complete):
    assert complete("ottla topics describe x", servers="127.0.0.1:1") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(ottla, shell):
    script = ottla("completion", shell).out
    assert "_ARGCOMPLETE" in script
    assert "ottla" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=30)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash on this machine")
def test_bash_completes(ottla, bootstrap, name, tmp_path):
    """The script in a real shell: press Tab by calling what bash would call."""
    ottla("topics", "create", name)
    script = ottla("completion", "bash").out
    program = f"""{script}
export PATH={os.path.dirname(sys.executable)}:$PATH OTTLA_BOOTSTRAP_SERVERS={bootstrap} XDG_CONFIG_HOME={tmp_path}
COMP_WORDS=(ottla topics describe {name[:10]}); COMP_CWORD=3; COMP_TYPE=9
COMP_LINE="ottla topics describe {name[:10]}"; COMP_POINT=${{#COMP_LINE}}
compopt() {{ :; }}
_python_argcomplete ottla
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash"], input=program, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.split() == [name]
