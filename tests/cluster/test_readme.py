"""The commands of cluster/README.md."""

import itertools
import re
import shlex

import click
import pytest
import tyro
from typed_commands import fenced, options_of, parse_ray

RULE = ["gcloud", "compute", "firewall-rules", "create"]


@pytest.fixture(scope="module")
def commands(readme):
    """Return every command as the words that the shell passes to the program."""
    lines = "".join(fenced(readme, "sh")).splitlines()
    typed = re.findall(r"`((?:ray|python jobs)[^`]* (?:--|cluster/)[^`]*)`", readme)
    words = [shlex.split(line, comments=True) for line in [*lines, *typed]]
    return [list(itertools.takewhile(lambda word: word not in (">", "|"), line)) for line in words]


def test_every_ray_command_is_one_with_such_options(commands):
    said = [words[1:] for words in commands if words[0] == "ray"]
    assert len(said) > 10
    for words in said:
        parse_ray(words)


def test_the_check_of_rays_options_finds_an_unknown_one():
    with pytest.raises(click.NoSuchOption, match="--max-machines"):
        parse_ray(["up", "cluster/aws.yaml", "--max-machines", "2"])


def test_every_job_is_one_with_such_options(commands, root):
    jobs = [words[words.index("python") + 1 :] for words in commands if "python" in words]
    assert len(jobs) >= 2
    for script, *options in jobs:
        assert (root / script).is_file()
        tyro.cli(options_of(script), args=options)


def test_every_file_that_is_named_is_there(readme, commands, root):
    named = {word for words in commands for word in words if word.startswith("cluster/")}
    named |= {f"cluster/{name}" for name in re.findall(r"`([\w/-]+\.(?:yaml|py))`", readme)}
    assert len(named) > 6
    assert [name for name in sorted(named) if not (root / name).is_file()] == []


def test_only_ssh_is_open_to_the_world_on_google(commands):
    rules = [words for words in commands if words[:4] == RULE]
    assert len(rules) == 2
    for words in rules:
        inside = "--source-ranges=10.10.0.0/20" in words
        assert inside or "--allow=tcp:22" in words
