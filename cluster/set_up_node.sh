#!/usr/bin/env bash
# Readies a machine that `ray up` has started: what the lock names, and how shells find it.
# Arguments: more variables for everything that runs there, as NAME=VALUE.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# rsync keeps the mode that the token has where `ray up` was typed, which may be the world's.
chmod 600 ~/.ray/auth_token

test -x ~/.local/bin/uv || curl -LsSf https://astral.sh/uv/0.13.9/install.sh | sh
# The same Python on every machine, or they could not read each other's messages.
test -d ~/venv || ~/.local/bin/uv venv --python 3.11 ~/venv
~/.local/bin/uv pip install --quiet --python ~/venv/bin/python -r "$here/requirements.lock"

# Ray runs its commands in shells that read .bashrc.
printf 'export %s\n' 'PATH=~/venv/bin:$PATH' RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 "$@" \
    > "$here/environment"
grep -qs "source $here/environment" ~/.bashrc || echo "source $here/environment" >> ~/.bashrc
